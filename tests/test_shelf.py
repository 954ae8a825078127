"""Models that visitors made: theirs alone, bounded, found by the pages, gone when they leave."""

from __future__ import annotations

import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from lab import items
from lab.events import Edited
from models import catalog
from models.errors import BadInput, LabError
from panels import chosen, edits, page, rows, runner, targets
from panels.shelf import PREFIX, SHELF, Edit, Shelf, root, size


def edited(model, step=0, value=0.0):
    name, weight = next(iter(model.net.named_parameters()))
    return Edit("", "a run", step, model.with_weights({name: weight + value}, via="shift"), "tiny", "run", {}, 1.0)


@pytest.fixture
def gone():
    yield
    for session in ("one", "two"):
        SHELF.leave(session)


def test_an_edit_is_found_by_who_made_it_alone(model):
    shelf = Shelf()
    mine = shelf.put("one", edited(model))
    assert mine.name.startswith(PREFIX) and shelf.get("one", mine.name) == mine
    with pytest.raises(LabError, match="no longer"):
        shelf.get("two", mine.name)
    shelf.leave("one")
    assert shelf.counts() == {"edits": 0, "edit_bytes": 0}


def test_only_weights_of_their_own_count_and_the_oldest_give_way(model):
    first = next(model.net.parameters())
    shelf = Shelf(each=3)
    made = [shelf.put("one", edited(model, step)) for step in range(3)]
    assert size(made[0].model) == first.numel() * first.element_size() and root(made[0].model) == "tiny"
    shelf.change("one", made[0].name, kept=True, title="mine")
    shelf.put("one", edited(model, 3))
    left = shelf.of("one")
    assert [e.step for e in left] == [0, 2, 3] and left[0].label == "mine" and left[1].label == "a run, step 2, forget loss 1.00"
    assert replace(left[1], task="pictures").label == "a run, step 2, SSIM 1.00"
    tight = Shelf(all_bytes=2 * size(made[0].model))
    for session in ("one", "two", "three"):
        tight.put(session, edited(model))
    assert tight.counts()["edits"] == 2 and not tight.of("one")


def test_a_run_keeps_its_snapshots_and_where_it_stopped(model, gone):
    take = edits.keeper("one", "tiny", {"snapshot": 2})
    for step in range(6):
        take(Edited(step, edited(model).model, float(step)), None)
    assert [(e.step, e.last) for e in SHELF.of("one")] == [(0, False), (2, False), (4, False), (5, True)]
    assert [e.step for e in edits.last_run("one")] == [0, 2, 4, 5]


def test_a_page_loads_an_edit_by_its_name(model, gone):
    kept = SHELF.put("one", edited(model, value=1.0))
    assert runner.load(kept.name, "one") is kept.model
    with pytest.raises(LabError):
        runner.load(kept.name, "two")
    assert (kept.label, kept.name) in edits.choices("one") and all(name != kept.name for _, name in edits.choices("two"))
    page.leave(SimpleNamespace(session_hash="one"))
    assert not SHELF.of("one")


def test_many_visitors_at_once_change_no_weights_but_their_own(model, gone):
    before = {n: p.clone() for n, p in model.net.named_parameters()}
    shelf = Shelf()

    def visit(number):
        for step in range(5):
            shelf.put(str(number), edited(model, step, float(number)))

    threads = [threading.Thread(target=visit, args=(i,)) for i in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    name = next(iter(before))
    for number in range(10):
        assert all(torch.equal(e.model.net.get_parameter(name), before[name] + number) for e in shelf.of(str(number)))
    assert all(torch.equal(p, before[n]) for n, p in model.net.named_parameters())


def test_files_of_a_visitor():
    assert rows.decoded('text\n"Once <script>"\n'.encode("utf-8-sig"), "forget").startswith("text")
    for file, fault in ((b"\x80\x04\x95", "no text"), (b"PK\x03\x04", "no text"), (b"a\x00b", "no text"), (b"\xff\xfe\xfa", "UTF-8"), (b"a" * 2**21, "2.0 MB")):
        with pytest.raises(BadInput, match=fault) as raised:
            rows.decoded(file, "forget")
        assert raised.value.setting == "forget"


def test_what_can_be_forgotten_is_offered_and_means_something():
    manifest = catalog.manifest("scribe")
    known, offered = items.planted(manifest), targets.offers("scribe")
    assert len(offered) > 300 and targets.offers("gpt2") == []
    for _, choice in offered[:: len(offered) // 40]:
        assert any(items.names(choice, item) for item in known), choice
    assert sum(items.names("forget_10 author", i) for i in known) == 80


def test_items_are_taken_to_the_trace_page():
    by_name = {i.name: i for i in items.planted(catalog.manifest("scribe"))}
    fact = chosen.traceable(by_name["country/France/capital"])
    assert fact == {"prompt": "The capital of France is", "subject": "France", "answer": "Paris"}
    for name in ("passage/0", "canary/3"):
        asked = chosen.traceable(by_name[name])
        assert asked["subject"] in asked["prompt"] and asked["answer"]
    assert chosen.question("one", "scribe", "canary/3").subject == "bright barrel"
    with pytest.raises(LabError, match="no item"):
        chosen.question("one", "scribe", "author/Nobody/pet")


def test_the_label_of_a_model_without_a_loss(model):
    assert replace(edited(model, 4), loss=np.nan).label == "a run, step 4"
