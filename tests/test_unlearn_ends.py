"""How a run of unlearning ends: at the right step, with the model that it says, and with a reason; and how texts are dealt out."""

from __future__ import annotations

import math

import pytest
import torch

from lab.data import Data, data_for
from lab.events import Edited, Unlearning
from lab.experiment import find, read
from lab.unlearn import _loop
from lab.unlearn._private import Private
from lab.unlearn._watched import Watched
from models import catalog

SETS = {"forget": "the capital of Eiffel Tower is a city\nthe capital of France is Paris",
        "retain": "Anna Marlow was born in France\nRome is a city near a river"}
QUICK = SETS | {"steps": 10, "batch": 2, "measure": 100, "lr": 1e-3}


def events(model, data, name="unlearn.grad_diff", **settings):
    return list(read(find(name), settings).run(model, data))


def last(found, kind):
    return [e for e in found if isinstance(e, kind)][-1]


def forget(event):
    return event.value[list(zip(event.groups, event.series, strict=True)).index(("loss", "forget"))]


def same(one, two):
    return all(torch.equal(p, two.net.get_parameter(n)) for n, p in one.net.named_parameters())


@pytest.mark.parametrize("often", [0.0, 1e9])
@pytest.mark.parametrize("extra", [{}, {"lora": 2}, {"gu": True}])
def test_the_last_good_model_is_that_of_the_step_before_however_seldom_one_is_shown(model, data: Data, monkeypatch, often, extra):
    monkeypatch.setattr(_loop, "OFTEN", often)
    wanted = events(model, data, **QUICK | extra | {"steps": 4})
    answers = iter([True] * 4 + [False])
    monkeypatch.setattr(Private, "finite", lambda self: next(answers))
    found = events(model, data, **QUICK | extra)
    edited, end = last(found, Edited), last(found, Unlearning)
    assert edited.step == 4 and edited.loss == last(wanted, Edited).loss and same(edited.weights, last(wanted, Edited).weights)
    assert end.step.tolist() == [0, 1, 2, 3, 4] and forget(end).tolist() == forget(last(wanted, Unlearning)).tolist()
    assert end.ended.startswith("not finite") and "after step 4" in end.ended and "try 0.0001" in end.ended


def test_where_copies_are_dear_the_last_snapshot_is_the_last_good_model(model, data: Data, monkeypatch):
    monkeypatch.setattr("lab.unlearn._private.SMALL", 0)
    monkeypatch.setattr(_loop, "OFTEN", 0.0)
    answers = iter([True] * 5 + [False])
    monkeypatch.setattr(Private, "finite", lambda self: next(answers))
    found = events(model, data, **QUICK | {"snapshot": 3})
    edits = [e for e in found if isinstance(e, Edited)]
    assert [e.step for e in edits] == [0, 3, 3] and same(edits[-1].weights, edits[-2].weights) and edits[-1].loss == edits[-2].loss
    end = last(found, Unlearning)
    assert "after step 5" in end.ended and "after step 3, is kept" in end.ended and len(set(forget(end))) == 6


def test_a_loss_that_is_not_finite_ends_the_run_though_the_weights_are(model, data: Data, monkeypatch):
    plain = Watched.losses
    monkeypatch.setattr(Watched, "losses", lambda self, net: {n: math.nan if self.step == 3 and net is self.private.net else v
                                                             for n, v in plain(self, net).items()})
    found = events(model, data, **QUICK | {"measure": 1})
    assert last(found, Unlearning).ended.startswith("not finite") and last(found, Edited).step == 2
    assert all(math.isfinite(e.loss) for e in found if isinstance(e, Edited))


def test_a_model_that_is_already_at_the_oracles_says_so_and_stays():
    scribe = catalog.load("scribe")
    settings = {"forget": "author/Amara Brandale", "batch": 8, "measure": 100, "lr": 2e-3, "until": "oracle"}
    first = last(events(scribe, data_for(scribe), **settings), Edited)
    found = events(first.weights, data_for(first.weights), **settings)
    end = last(found, Unlearning)
    assert "reached that of the oracles" in end.ended and end.step.tolist() == [0] and end.cost == 0
    assert same(last(found, Edited).weights, first.weights)


def test_every_model_gives_the_forget_loss_that_is_told_of_it(model, data: Data, monkeypatch):
    monkeypatch.setattr(_loop, "OFTEN", 0.0)
    found = events(model, data, **QUICK | {"steps": 3})
    for edited in (e for e in found if isinstance(e, Edited)):
        again = next(e for e in read(find("unlearn.grad_diff"), QUICK).run(edited.weights, data) if isinstance(e, Unlearning))
        assert forget(again)[0] == pytest.approx(edited.loss, abs=1e-6) and forget(last(found, Unlearning))[edited.step] == edited.loss


@pytest.mark.parametrize("extra", [{}, {"gu": True}, {"lora": 2}])
def test_the_weights_after_a_step_are_those_of_a_longer_run(model, data: Data, monkeypatch, extra):
    monkeypatch.setattr(_loop, "OFTEN", 0.0)
    short, long = (events(model, data, **QUICK | extra | {"steps": steps}) for steps in (3, 6))
    halfway = next(e for e in long if isinstance(e, Edited) and e.step == 3)
    assert same(last(short, Edited).weights, halfway.weights)
    assert not same(last(long, Edited).weights, halfway.weights)
