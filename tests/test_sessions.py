"""Ten visitors who unlearn different authors at once on one machine."""

from __future__ import annotations

import threading

import pytest
import torch

from lab.events import Edited
from models import catalog
from models.errors import LabError
from panels import edits, runner
from panels.shelf import EACH, SHELF, size

SETTINGS = {"steps": 2, "batch": 4, "measure": 50, "snapshot": 1, "lr": 1e-3}


def authors(count: int) -> list[str]:
    found = dict.fromkeys(f"author/{f['subject']}" for f in catalog.manifest("scribe")["facts"] if f["kind"] == "author" and f["split"] != "holdout")
    return list(found)[:count]


def visit(session: str, author: str) -> None:
    """What the page does for a run: its events, and the models that it makes kept for this visitor."""
    work, settings = runner.desk("unlearn.grad_diff"), SETTINGS | {"forget": author}
    take = edits.keeper(session, "scribe", settings)
    for event in work.events("scribe", settings, lambda: False, session):
        if isinstance(event, Edited):
            take(event, None)


def weights(model) -> dict[str, torch.Tensor]:
    return {n: p.clone() for n, p in model.net.named_parameters()}


def test_ten_sessions_at_once_change_no_weights_but_their_own():
    scribe = catalog.load("scribe")
    before, chosen = weights(scribe), authors(10)
    threads = [threading.Thread(target=visit, args=(f"visitor {i}", author)) for i, author in enumerate(chosen)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert all(torch.equal(p, before[n]) for n, p in scribe.net.named_parameters())
        ends = {i: weights(SHELF.of(f"visitor {i}")[-1].model) for i in range(10)}
        for i in (0, 4, 9):  # as those who have the machine to themselves
            visit("alone", chosen[i])
            alone = SHELF.of("alone")[-1].model
            assert all(torch.equal(p, ends[i][n]) for n, p in alone.net.named_parameters())
        assert not all(torch.equal(ends[0][n], ends[1][n]) for n in before)
        one = size(SHELF.of("visitor 0")[-1].model)
        assert SHELF.counts()["edit_bytes"] <= 11 * EACH * one and all(len(SHELF.of(f"visitor {i}")) == 3 for i in range(10))
        with pytest.raises(LabError):
            runner.load(SHELF.of("visitor 1")[-1].name, "visitor 2")
    finally:
        for session in ("alone", *(f"visitor {i}" for i in range(10))):
            SHELF.leave(session)
    assert SHELF.counts()["edits"] == 0
