"""The command line: the same experiments without a browser."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from lab.__main__ import difference, main
from tests.conftest import PROMPT, SUBJECT

ROOT = Path(__file__).parents[1]
RUN = ["run", "trace.causal", "--set", f"prompt={PROMPT}", "--set", f"subject={SUBJECT}", "--set", "samples=3"]


def shell(*arguments):
    return subprocess.run([sys.executable, "-m", "lab", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_list_names_experiments_settings_and_models():
    done = shell("list")
    assert done.returncode == 0 and "trace.causal" in done.stdout and "samples = 10" in done.stdout and "scribe" in done.stdout
    assert "(2 to 100)" in done.stdout and "arXiv" in done.stdout


def test_list_imports_no_torch():
    code = "import sys; from lab.__main__ import main; main(['list']); main(['list', '--json']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, timeout=120).returncode == 0


def test_list_as_json(capsys):
    assert main(["list", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    causal = next(e for e in found["experiments"] if e["name"] == "trace.causal")
    assert causal["settings"]["samples"] == {"type": "int", "default": 10, "low": 2, "high": 100, "help": causal["settings"]["samples"]["help"]}
    assert "scribe" in [m["name"] for m in found["models"]]


def test_run_writes_the_run_and_rerun_repeats_it(tiny_folder, tmp_path, capsys):
    out, again = tmp_path / "run.json", tmp_path / "again.json"
    assert main([*RUN, "--model", tiny_folder, "--out", str(out)]) == 0
    result = json.loads(out.read_text())["result"]
    assert len(result["effect"]) == len(result["tokens"]) and len(result["effect"][0]) == len(result["layers"])
    assert main(["rerun", str(out), "--model", tiny_folder, "--out", str(again)]) == 0
    assert "equal to the last bit, the same weights" in capsys.readouterr().out
    assert json.loads(again.read_text())["events"] == json.loads(out.read_text())["events"]


def test_without_out_it_says_the_result(tiny_folder, capsys):
    assert main([*RUN, "--model", tiny_folder]) == 0
    assert "total effect" in capsys.readouterr().out


def test_the_shell_prints_nothing_but_the_result(tiny_folder, tmp_path):
    done = shell(*RUN, "--model", tiny_folder, "--out", str(tmp_path / "run.json"))
    assert done.returncode == 0 and done.stdout == "" and "\r" not in done.stderr


@pytest.mark.parametrize("arguments, words", [
    (["run", "trace.casual", "--model", "TINY"], "trace.causal"),
    (["run", "trace.causal", "--model", "scribbe"], "scribe"),
    ([*RUN, "--set", "sampels=3", "--model", "TINY"], "samples"),
    ([*RUN, "--set", "samples=1", "--model", "TINY"], "2 to 100"),
    ([*RUN, "--set", "samples=many", "--model", "TINY"], "no int"),
    ([*RUN, "--set", "samples", "--model", "TINY"], "KEY=VALUE"),
    ([*RUN, "--set", "subject=Peru", "--model", "TINY"], "does not stand in the prompt"),
    ([*RUN, "--set", "prompt=", "--model", "TINY"], "the prompt is empty"),
    ([*RUN, "--model", "TINY", "--out", "no/such/folder/run.json"], "does not exist"),
    ([*RUN, "--model", "no/such/folder/here"], "no/such/folder"),
    ([*RUN, "--model", "TINY", "--out", "."], "is a folder"),
    ([*RUN, "--model", "TINY", "--device", "abacus"], "no device 'abacus'"),
    ([*RUN, "--model", "gpt2"], "Add --allow-download"),
    ([*RUN, "--set", "noise=nan", "--model", "TINY"], "finite"),
    (["rerun", "missing.json"], "missing.json"),
    (["run", "trace.causal"], "--model"),
    (["walk"], "walk"),
    ([], "--help"),
])
def test_bad_input_is_one_clear_line_and_code_2(arguments, words, tiny_folder, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main([tiny_folder if a == "TINY" else a for a in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and captured.err.startswith("error: ") and words in captured.err
    assert not list(tmp_path.iterdir())


def test_a_run_that_cannot_say_where_its_model_is_asks_for_it(tiny_folder, tmp_path, capsys):
    out = tmp_path / "run.json"
    assert main([*RUN, "--model", tiny_folder, "--out", str(out)]) == 0
    assert main(["rerun", str(out)]) == 2
    assert "--model" in capsys.readouterr().err
    plain = json.loads(out.read_text())
    out.write_text(json.dumps(plain | {"model": plain["model"] | {"lineage": ["organism:scribe", "shift"]}}))
    assert main(["rerun", str(out)]) == 2
    assert "edited" in capsys.readouterr().err


def test_rerun_says_by_how_much_figures_differ(tiny_folder, tmp_path, capsys):
    out = tmp_path / "run.json"
    assert main([*RUN, "--model", tiny_folder, "--out", str(out)]) == 0
    plain = json.loads(out.read_text())
    plain["events"][-1]["effect"][-1][0] += 0.25
    out.write_text(json.dumps(plain))
    assert main(["rerun", str(out), "--model", tiny_folder]) == 0
    assert "differs by at most 0.25, the same weights" in capsys.readouterr().out


@pytest.mark.parametrize("one, two, expected", [
    ({"a": [1.0, 2.0]}, {"a": [1.5, 2.0]}, 0.5), ([None, 1], [None, 1], 0.0), ([], [], 0.0),
    ([None], [1.0], math.inf), (["a"], ["b"], math.inf), ([1], [1, 2], math.inf), ({"a": 1}, {"b": 1}, math.inf)])
def test_difference_by_hand(one, two, expected):
    assert difference(one, two) == expected


def test_interrupted_it_writes_nothing(tiny_folder, tmp_path, monkeypatch, capsys):
    from lab import runs

    def interrupted(*_):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(runs, "record", interrupted)
    assert main([*RUN, "--model", tiny_folder, "--out", str(tmp_path / "run.json")]) == 130
    assert not (tmp_path / "run.json").exists()
