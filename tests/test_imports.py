"""Imports run one way, app -> panels -> lab -> models, and nothing heavy is imported before it is needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NEVER = {
    "models": {"gradio", "plotly", "lab", "panels", "app", "bench"},
    "lab": {"gradio", "plotly", "panels", "app", "bench"},
    "panels": {"torch", "transformers", "diffusers", "app", "bench"},
}
HEAVY = ("torch", "diffusers", "umap", "transformers", "captum")


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or ""


@pytest.mark.parametrize("folder", NEVER)
def test_imports_point_down(folder):
    files = list((ROOT / folder).rglob("*.py"))
    assert files
    for path in files:
        for name in imported(path):
            assert name.split(".")[0] not in NEVER[folder], f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("statement", [
    "import app", "from lab.experiment import discover; discover()", "from models import catalog; catalog.entries()", "from panels import page; page.build()"])
def test_nothing_heavy_is_imported_at_boot(statement):
    code = f"import sys; {statement}; print(*[n for n in {HEAVY!r} if n in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert out.returncode == 0, out.stderr
    assert out.stdout.strip() == ""


@pytest.mark.parametrize("folder", [*NEVER, "app.py", "tests", "bench"])
def test_files_stay_small_and_load_no_pickle(folder):
    paths = [ROOT / folder] if folder.endswith(".py") else (ROOT / folder).rglob("*.py")
    for path in paths:
        text = path.read_text()
        limit = 60 if folder == "app.py" else 400
        assert text.count("\n") <= limit, f"{path.relative_to(ROOT)} has more than {limit} lines"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Attribute) and node.attr == "load" and isinstance(node.value, ast.Name):
                assert node.value.id not in {"torch", "pickle"}, f"{path.relative_to(ROOT)} loads a pickle"
