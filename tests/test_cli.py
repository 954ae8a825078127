"""The command line: the same experiments without a browser."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lab.__main__ import main
from tests.conftest import PROMPT, SUBJECT

ROOT = Path(__file__).parents[1]
RUN = ["run", "trace.causal", "--set", f"prompt={PROMPT}", "--set", f"subject={SUBJECT}", "--set", "samples=3"]


def shell(*arguments):
    return subprocess.run([sys.executable, "-m", "lab", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_list_names_experiments_settings_and_models():
    done = shell("list")
    assert done.returncode == 0 and "trace.causal" in done.stdout and "samples = 10" in done.stdout and "scribe" in done.stdout


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
    (["rerun", "missing.json"], "missing.json"),
])
def test_bad_input_is_one_clear_line_and_code_2(arguments, words, tiny_folder, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main([tiny_folder if a == "TINY" else a for a in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and captured.err.startswith("error: ") and words in captured.err
    assert not list(tmp_path.iterdir())


def test_interrupted_it_writes_nothing(tiny_folder, tmp_path, monkeypatch, capsys):
    from lab import runs

    def interrupted(*_):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(runs, "record", interrupted)
    assert main([*RUN, "--model", tiny_folder, "--out", str(tmp_path / "run.json")]) == 130
    assert not (tmp_path / "run.json").exists()
