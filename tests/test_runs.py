"""A run is saved, read back, and run again to the same figures."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from lab import runs
from lab.events import Progress, TraceMap
from models.errors import BadInput
from tests.conftest import PROMPT, SUBJECT

SETTINGS = {"prompt": PROMPT, "subject": SUBJECT, "samples": 3}


def finish(model, settings=SETTINGS):
    stream = runs.record("trace.causal", settings, model)
    while True:
        try:
            next(stream)
        except StopIteration as end:
            return end.value


def test_a_saved_run_reads_back_to_the_same_figures(model, tmp_path):
    run = finish(model)
    run.save(tmp_path / "run.json")
    again = runs.load(tmp_path / "run.json")
    assert again.to_json() == run.to_json()
    assert isinstance(again.result, TraceMap) and np.array_equal(again.result.effect, run.result.effect)


def test_saving_is_all_or_nothing(model, tmp_path, monkeypatch):
    run, path = finish(model), tmp_path / "run.json"
    path.write_text("what stood here before")

    def torn(draft, text):
        with open(draft, "w") as file:
            file.write(text[:50])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", torn)
        with pytest.raises(BadInput, match="No space left"):
            run.save(path)
    assert path.read_text() == "what stood here before" and list(tmp_path.iterdir()) == [path]
    link = tmp_path / "link.json"
    link.symlink_to(path)
    run.save(link)
    assert link.is_symlink() and runs.load(path).to_json() == run.to_json()


def test_a_device_takes_the_run_and_stays_a_device(model):
    finish(model).save(Path(os.devnull))
    assert Path(os.devnull).is_char_device()


def test_a_run_repeats_from_its_own_settings(model, tmp_path):
    run = finish(model)
    run.save(tmp_path / "run.json")
    repeated = finish(model, runs.load(tmp_path / "run.json").settings)
    assert repeated.to_json()["events"] == run.to_json()["events"]
    assert repeated.model == run.model


def test_the_record_says_what_ran_on_what(model):
    plain = finish(model).to_json()
    defaults = {"answer": "", "noise": 3.0, "seed": 0, "kind": "hidden", "window": 0, "corruption": "gaussian", "replacement": "", "score": "probability",
                "foil": "", "normalised": False, "preview": True}
    assert plain["settings"] == defaults | SETTINGS
    assert plain["model"]["source"] == "folder:tiny" and len(plain["model"]["weights"]) == 64
    assert plain["versions"]["torch"].startswith("2.13")
    result = plain["result"]
    shape = np.shape(result["effect"])
    assert shape == (len(result["tokens"]), len(result["layers"])) == np.shape(result["effect_se"])
    assert 0 <= result["clean"] <= 1 and 0 <= result["corrupted"] <= 1


def test_edited_weights_show_in_the_record(model):
    name = "model.embed_tokens.weight"
    edited = model.with_weights({name: model.net.get_parameter(name) * 1.5}, via="louder")
    one, two = finish(model), finish(edited)
    assert one.model["weights"] != two.model["weights"] and two.model["lineage"][-1] == "louder"


def test_a_run_that_was_stopped_leaves_no_record_and_frees_its_device(model):
    stream = runs.record("trace.causal", SETTINGS, model)
    while isinstance(next(stream), Progress):
        pass
    stream.close()
    assert not runs.LOCAL.busy()


@pytest.mark.parametrize("harm", [
    lambda r: r.pop("settings"), lambda r: r.update(format=99), lambda r: r.update(experiment="trace.none"), lambda r: r.update(events=[]),
    lambda r: r["settings"].update(samples=10**9), lambda r: r["events"][0].update(event="Pickle"), lambda r: r["events"][0].pop("effect"),
    lambda r: r.update(model=7), lambda r: r["model"].pop("source"), lambda r: r["events"][0]["effect"].pop(), lambda r: r["events"][0].update(clean="much"),
    lambda r: r["events"][0].update(tokens="the capital"), lambda r: r["events"][0].update(subject=[3, 99]),
    lambda r: r["events"][0].update(effect=[[1], [1, 2]]), lambda r: r["events"].insert(0, 7)])
def test_a_file_that_is_no_run_is_refused(model, tmp_path, harm):
    plain = json.loads(json.dumps(finish(model).to_json()))
    harm(plain)
    (tmp_path / "run.json").write_text(json.dumps(plain))
    with pytest.raises(BadInput):
        runs.load(tmp_path / "run.json")


@pytest.mark.parametrize("text", ["", "[]", "7", "{", "\x80\x04pickle"])
def test_a_file_that_is_no_json_is_refused(tmp_path, text):
    (tmp_path / "run.json").write_text(text, encoding="latin-1")
    with pytest.raises(BadInput):
        runs.load(tmp_path / "run.json")
    with pytest.raises(BadInput, match="cannot be read"):
        runs.load(tmp_path / "missing.json")
