"""The loop of unlearning: a point a step, models by the way, and nobody else's weights touched."""

from __future__ import annotations

import json
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from lab.data import Data, data_for
from lab.events import Edited, Progress, Unlearning
from lab.experiment import discover, find, read
from lab.items import Item
from lab.memorization._rows import vocabulary
from lab.unlearn._bound import BROKEN, bound
from lab.unlearn._private import Private
from lab.unlearn._sets import Deck
from models import catalog
from models.errors import BadInput
from tests import families

SETS = {"forget": "the capital of Eiffel Tower is a city\nthe capital of France is Paris",
        "retain": "Anna Marlow was born in France\nRome is a city near a river"}
QUICK = SETS | {"steps": 4, "batch": 2, "measure": 2, "lr": 1e-3}
AUTHOR = {"forget": "author/Amara Brandale", "batch": 8, "measure": 100, "snapshot": 100}


@pytest.fixture(scope="module")
def scribe():
    return catalog.load("scribe")


def events(model, name="unlearn.grad_diff", data=None, **settings):
    return list(read(find(name), settings).run(model, data or data_for(model)))


def curves(found):
    return [e for e in found if isinstance(e, Unlearning)][-1]


def edits(found):
    return [e for e in found if isinstance(e, Edited)]


def series(event, group, name):
    return event.value[list(zip(event.groups, event.series, strict=True)).index((group, name))]


def weights(model):
    return {n: p.clone() for n, p in model.net.named_parameters()}


def same(one, two):
    return all(torch.equal(p, two[n]) for n, p in one.items())


def test_the_first_event_comes_at_once_and_the_first_losses_before_the_measurement(model, data: Data):
    run = read(find("unlearn.grad_diff"), QUICK).run(model, data)
    first = next(run)
    shown = next(e for e in run if isinstance(e, Unlearning))
    assert isinstance(first, Progress) and list(shown.step) == [0] and set(shown.groups) == {"loss"}
    run.close()


def test_a_point_a_step_and_models_that_give_the_losses_that_are_told(model, data: Data):
    found = events(model, data=data, **QUICK)
    end = curves(found)
    assert end.step.tolist() == [0, 1, 2, 3, 4] and not np.isnan(series(end, "loss", "forget")).any() and end.ended.startswith("all 4 steps")
    assert series(end, "loss", "forget")[-1] > series(end, "loss", "forget")[0]
    assert end.cost == pytest.approx(4 * 2), "two forwards and two backwards a step"
    last = edits(found)[-1]
    again = events(last.weights, data=data, **QUICK | {"steps": 1})
    assert last.step == 4 and series(curves(again), "loss", "forget")[0] == pytest.approx(last.loss, abs=1e-6)
    assert last.weights.parent is model and edits(again)[-1].weights.lineage[-2:] == ("Gradient difference", "Gradient difference")


def test_a_shorter_run_is_the_beginning_of_a_longer_one(model, data: Data):
    short, long = (curves(events(model, data=data, **QUICK | {"steps": steps})) for steps in (2, 4))
    assert series(short, "loss", "retain").tolist() == series(long, "loss", "retain")[:3].tolist()


def test_two_runs_at_once_are_those_that_run_alone(model, data: Data):
    before = weights(model)
    alone = {seed: weights(edits(events(model, data=data, **QUICK, seed=seed))[-1].weights) for seed in (0, 1)}
    found = {}
    threads = [threading.Thread(target=lambda s=s: found.update({s: weights(edits(events(model, data=data, **QUICK, seed=s))[-1].weights)})) for s in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert same(found[0], alone[0]) and same(found[1], alone[1]) and not same(alone[0], alone[1])
    assert same(before, weights(model)) and not any(p.requires_grad for p in model.net.parameters())


@pytest.mark.parametrize("extra", [{"forget_weight": 100.0, "retain_weight": 0.0}, {"gu": True}, {}])
def test_a_learning_rate_that_breaks_the_model_ends_the_run_and_leaves_the_last_good_one(model, data: Data, extra):
    found = events(model, data=data, **QUICK | {"steps": 60, "lr": 1.0} | extra)
    end, last, limit = curves(found), edits(found)[-1], np.log(vocabulary(model))
    assert end.ended.startswith("broken") and "what is to be kept" in end.ended and "try 0.1" in end.ended and f"after step {last.step}, is kept" in end.ended
    retain, at = series(end, "loss", "retain"), list(end.step).index(last.step)
    assert retain[-1] > BROKEN["retain"] * limit and np.isfinite(retain).all(), "the point that broke it stands on the curve"
    assert last.step < end.step[-1] < 60 and retain[at] <= max(limit, retain[0])
    again = curves(events(last.weights, data=data, **QUICK | {"steps": 1}))
    assert series(again, "loss", "forget")[0] == pytest.approx(last.loss, abs=1e-5)
    broken = Private(model, None, 0, 0)
    assert broken.finite()
    with torch.no_grad():
        broken.parameters[0][0] = torch.nan
    assert not broken.finite()


def test_without_a_retain_set_the_forget_loss_has_a_bound_far_from_what_ascent_reaches(model, data: Data):
    alone = QUICK | {"retain": "", "steps": 40}
    end = curves(events(model, "unlearn.grad_ascent", data, **alone | {"lr": 1.0}))
    assert end.ended.startswith("broken") and "what is to be forgotten" in end.ended
    usual = curves(events(model, "unlearn.grad_ascent", data, **alone | {"lr": 1e-2}))
    assert usual.ended.startswith("all 40 steps") and series(usual, "loss", "forget").max() > np.log(vocabulary(model)), "worse than a guess, as is meant"


def test_the_bound_by_hand_and_a_model_that_starts_worse_is_not_blamed():
    limit = bound({"forget": 0.1, "retain": 0.2}, 1000)
    assert limit.unit == pytest.approx(6.9078, abs=1e-4)
    assert not limit.fault({"forget": 1e6, "retain": 34.5}) and "35 nats" in limit.fault({"forget": 0.1, "retain": 34.6})
    assert limit.good({"forget": 1e6, "retain": 6.9}) and not limit.good({"forget": 0.0, "retain": 7.0})
    assert limit.fault({"forget": 1.0, "retain": np.nan}).startswith("not finite")
    assert bound({"forget": 0.1, "retain": 50.0}, 1000).unit == 50.0 and bound({"forget": 0.1}, 1000).name == "forget"


@pytest.mark.parametrize("path", sorted(Path("assets/gallery").glob("unlearn-*.json")), ids=lambda p: p.stem)
def test_no_run_that_is_shown_on_arrival_comes_near_the_bound(path):
    found = json.loads(path.read_text())["result"]
    for group, name, values in zip(found["groups"], found["series"], found["value"], strict=True):
        if (group, name) == ("loss", "retain"):
            assert max(values) < 0.25 * np.log(4096), "of the words of scribe: a twentieth of where a run ends"
    assert not found["ended"].startswith(("broken", "not finite"))


def test_what_is_not_finite_ends_the_run_with_the_cure(model, data: Data, monkeypatch):
    count = iter([True, True, False])
    monkeypatch.setattr(Private, "finite", lambda self: next(count))
    found = events(model, data=data, **QUICK | {"steps": 10})
    assert "learning rate" in curves(found).ended and "0.0001" in curves(found).ended and edits(found)[-1].step == 2
    kept, good = weights(edits(found)[-1].weights), weights(next(e for e in edits(found) if e.step == 2).weights)
    assert same(kept, good)


@pytest.mark.parametrize("change, setting", [
    ({"forget": " "}, "forget"), ({"retain": SETS["forget"]}, "retain"), ({"retain": ""}, "retain"), ({"until": "oracle"}, "until"),
    ({"forget": "{\"words\": 1}"}, "forget")])
def test_sets_that_cannot_be_are_refused(model, data: Data, change, setting):
    with pytest.raises(BadInput) as raised:
        events(model, data=data, **QUICK | change)
    assert raised.value.setting == setting


def test_until_the_oracles_forget_loss(scribe):
    end = curves(events(scribe, **AUTHOR | {"until": "oracle", "steps": 60, "lr": 2e-3}))
    low, high = (side[list(zip(end.groups, end.series, strict=True)).index(("loss", "forget"))] for side in (end.low, end.high))
    forget = series(end, "loss", "forget")
    assert "reached that of the oracles" in end.ended and forget[-1] >= (low + high) / 2 > forget[-2]
    with pytest.raises(BadInput, match="read"):
        events(scribe, **AUTHOR | {"forget": "country/France", "until": "oracle"})


@pytest.mark.parametrize("name", [n for n in discover() if n.startswith("unlearn.")])
def test_every_method_forgets_and_changes_nobody_else(scribe, name):
    before = weights(scribe)
    known = set(vars(find(name)()))
    strong = {"lr": 1e-3, "steps": 6, "layers": "0-3", "coefficient": 40.0, "samples": 24, "alpha": 3.0}
    strong |= {"lr": 1e-2, "coefficient": 100.0} if name == "unlearn.rmu" else {}  # pushes states, and the loss only by way of them
    found = events(scribe, name, **{k: v for k, v in (AUTHOR | strong).items() if k in known})
    end = curves(found)
    forget = series(end, "loss", "forget")
    assert forget[~np.isnan(forget)][-1] > forget[0] + 0.02, name
    assert same(before, weights(scribe)) and end.samples and end.cost > 0
    assert edits(found)[-1].weights.parent is scribe


def test_with_gu_the_constraints_are_told(model, data: Data):
    end = curves(events(model, data=data, **QUICK | {"gu": True}))
    assert 0 <= series(end, "geometry", "share removed")[1] <= 1 and series(end, "geometry", "violated constraints")[1] in (0, 1)
    assert end.cost == pytest.approx(4 * 3)


def test_low_rank_updates_train_the_blocks_alone(model, data: Data):
    start = Private(model, None, 2, 0)
    ids = torch.tensor([[1, 5, 9, 12]])
    assert torch.equal(start.net(input_ids=ids).logits, model.net(input_ids=ids).logits), "nothing has changed yet"
    with torch.no_grad():
        for p in start.parameters:
            p.add_(0.02)
    assert torch.allclose(start.net(input_ids=ids).logits, start.frozen("x").net(input_ids=ids).logits, atol=1e-5)
    end = edits(events(model, data=data, **QUICK | {"lora": 2}))[-1].weights
    changed = {n for n, p in end.net.named_parameters() if not torch.equal(p, model.net.get_parameter(n))}
    assert changed and all(".layers." in n for n in changed)


@pytest.mark.parametrize("family", ["gpt2", "qwen3", "mixtral", "mamba"])
def test_other_families_unlearn_too(family, tmp_path, data: Data):
    families.save(family, tmp_path / family)
    model = catalog.load(str(tmp_path / family))
    for extra in ({}, {"lora": 2}):
        found = events(model, data=data, **QUICK | {"steps": 2} | extra)
        assert edits(found)[-1].step == 2 and np.isfinite(series(curves(found), "loss", "forget")).all()


def test_the_change_of_the_weights_by_layer(model):
    private = Private(model, None, 0, 0)
    name = next(n for n in private.trained if ".layers.1." in n and n.endswith("q_proj.weight"))
    with torch.no_grad():
        private.trained[name].mul_(2.0)
    names, change = private.change()
    block = [p for n, p in model.net.named_parameters() if ".layers.1." in n]
    share = float(model.net.get_parameter(name).norm()) / sum(float(p.square().sum()) for p in block) ** 0.5
    assert change[names.index("1")] == pytest.approx(share, rel=1e-4) and change[names.index("0")] == 0 and "embedding" in names


@pytest.mark.parametrize("batch", [1, 3, 4, 5, 9])
def test_every_text_is_dealt_as_often_as_any_other(model, batch):
    words = "Paris Rome Lima city river".split()
    deck = Deck([Item(f"row/{i}", "text", "given", -1, "the capital of", word) for i, word in enumerate(words)], model, torch.Generator().manual_seed(0))
    seen = Counter[str]()
    for _ in range(60):
        drawn = [answer for _, answer, _ in deck.draw(batch).texts]
        assert len(set(drawn)) == len(drawn) == min(batch, len(words)), "none stands twice in a batch"
        seen.update(drawn)
        assert max(seen.values()) - min(seen[w] for w in words) <= 1, "all come before any comes again, but for those that a batch must wait for"
    assert np.ptp([seen[w] for w in words]) == 0, "60 batches are whole rounds"
