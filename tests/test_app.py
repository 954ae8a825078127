"""The app without a browser: what it offers to programs, and that what a visitor holds is bounded."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from gradio_client import Client

from lab.events import Progress
from lab.experiment import discover
from models.errors import BadInput
from panels import page, runner
from panels.runner import Desk, desk, line, source
from panels.store import Shown, Store
from panels.trace import FOLDER
from tests import serving

ROOT = Path(__file__).parents[1]
EVENT = Progress(1, 2, "half")


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with serving.app(serving.free_port(), tmp_path_factory.mktemp("server") / "log.txt") as url:
        yield url


@pytest.fixture
def trace() -> Desk:
    return desk("trace.causal", FOLDER / "trace-france.json")


def test_importing_the_app_and_building_its_pages_brings_in_nothing_heavy():
    code = "import sys, app; app.page.build(); print(*{'torch', 'transformers', 'diffusers', 'umap', 'captum'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert out.returncode == 0, out.stderr
    assert out.stdout.strip() == ""


def test_further_desks_share_what_is_asked_and_are_made_when_opened():
    import gradio as gr

    from panels import closer, gallery
    from panels import trace as module

    with gr.Blocks() as blocks:
        first, folds = module.build()
        known = {"prompt": "a", "samples": 3}
        opened = next(fold for fold in folds if fold.name == "trace.heads").unfolded(known)
        assert not any(str(getattr(b, "elem_id", "")).startswith("trace-heads-run") for b in blocks.blocks.values())
        further = {}
        for fold in folds:
            further[fold.name] = work = desk(fold.name, gallery.FOLDER / f"{fold.name.replace('.', '-')}.json")
            work.borrow(first)
            closer.lay(work, "")
    named = [b.elem_id for b in blocks.blocks.values() if getattr(b, "elem_id", None)]
    assert len(named) == len(set(named))
    assert opened[first.form["prompt"]] == "a" and '{"given": {"samples": 3}, "run": true}' in opened.values()
    shared = {name: set(work.lent) - {"model"} for name, work in further.items()}
    assert shared["trace.lens"] == {"prompt", "answer"} and shared["trace.heads"] == {"prompt", "subject", "answer"} and shared["trace.probes"] == set()
    assert all(work.model is first.model and work.form[setting] is first.form[setting] for name, work in further.items() for setting in shared[name])
    assert "seed" not in further["trace.lens"].form  # nothing there is drawn at random


def test_programs_find_one_endpoint_an_experiment(address):
    client = Client(address, verbose=False)
    assert set(client.view_api(return_format="dict")["named_endpoints"]) == {f"/{name.replace('.', '_')}" for name in discover()}


def test_a_run_through_the_endpoint(address, tiny_folder):
    client = Client(address, verbose=False)
    job = client.submit(tiny_folder, {"prompt": "the capital of France is", "subject": "France", "samples": 2}, api_name="/trace_causal")
    run = job.result(timeout=300)
    assert run["experiment"] == "trace.causal" and run["finished"] and len(run["result"]["tokens"]) == len(run["result"]["effect"])
    assert any("note" in said for said in job.outputs())
    refused = client.predict(tiny_folder, {"samples": 1}, api_name="/trace_causal")
    assert refused["setting"] == "samples" and "2 to 100" in refused["error"]
    serving.wait_until(lambda: serving.status(address)["busy"] is False, 20)


def test_the_desk_tells_a_wrong_setting_before_it_loads_a_model(trace):
    stream = trace.events("/no/such/folder", {"samples": 1}, lambda: False)
    assert isinstance(next(stream), Progress)
    with pytest.raises(BadInput, match="samples"):
        next(stream)


def test_a_run_that_is_stopped_gives_what_it_has(trace, tiny_folder):
    stopped = threading.Event()
    stream, seen = trace.events(tiny_folder, {"prompt": "the capital of France is", "subject": "France", "samples": 2}, stopped.is_set), 0
    try:
        while True:
            seen += not isinstance(next(stream), Progress)
            if seen == 2:
                stopped.set()
    except StopIteration as end:
        run = end.value
    assert run.finished is False and run.result.tokens
    assert not page.status()["busy"]


def test_a_run_that_is_stopped_while_its_model_loads_ends_at_once(trace, monkeypatch):
    waiting = threading.Event()
    monkeypatch.setattr(runner, "load", lambda name, session: waiting.wait(60))
    stopped = threading.Event()
    stream = trace.events("slow", {}, stopped.is_set)
    notes = [next(stream).note for _ in range(3)]
    assert notes[1].startswith("Loading slow")
    stopped.set()
    with pytest.raises(StopIteration) as end:
        next(stream)
    waiting.set()
    assert end.value.value is None


def test_the_store_forgets_the_oldest_and_who_left():
    store = Store(kept=3, each=2)
    names = [store.put("a", Shown(EVENT)) for _ in range(3)]
    assert store.get("a", names[0]) is None and store.get("a", names[2]) is not None and store.get("b", names[2]) is None
    others = [store.put("b", Shown(EVENT)) for _ in range(2)]
    assert store.counts()["figures"] == 3 and store.get("b", others[1])
    store.leave("a")
    assert store.get("a", names[2]) is None and store.get("b", others[0])


def test_a_ticket_starts_one_run_and_a_new_one_takes_its_place():
    store = Store()
    assert store.claim("a", "desk") is None and store.stop("a", "desk") is False
    store.ask("a", "desk")
    first = store.claim("a", "desk")
    assert first and store.claim("a", "desk") is None and not first.stopped.is_set()
    store.ask("a", "desk")
    assert first.stopped.is_set() and not store.current("a", "desk", first)
    store.done("a", "desk", first)  # the old run ends later: the new ticket stays
    second = store.claim("a", "desk")
    assert second and store.stop("a", "desk") and second.stopped.is_set()
    store.leave("a")
    assert store.counts()["runs"] == 0


def test_lines_are_escaped_and_sources_are_found_again(trace):
    assert "<b>" not in line("<b>token</b>", 0.5)
    assert source(trace.first) == "scribe"
