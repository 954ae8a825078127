"""The scores: hand-worked formulas, oracles against themselves, a slow loop, and what is empty where no oracle fits."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from lab.data import Data, data_for
from lab.events import Table
from lab.experiment import find
from lab.items import choose
from lab.memorization._rows import Row
from lab.ruler import _formulas as formulas
from lab.ruler._answers import divergence
from lab.ruler._metrics import metrics
from lab.ruler._profile import Profile, margin, passes, ranking, sets
from lab.ruler._table import row
from models import catalog
from models.errors import BadInput


@pytest.fixture(scope="module")
def scribe():
    return catalog.load("scribe", "cpu")


@pytest.fixture(scope="module")
def truth(scribe):
    return data_for(scribe)


@pytest.fixture(scope="module")
def profiled(scribe, truth):
    """(items, scribe's profile, those of the oracles) for a few questions of each set."""
    items = sets(truth, "forget_2", "retain author", 12, 0)
    oracles = [Profile(catalog.load(name, "cpu")) for name in truth.oracles]
    mine = Profile(scribe)
    for profile in (mine, *oracles):
        for _, step in passes(items, truth.oracles):
            for _ in step(profile, items, truth):
                pass
    return items, mine, oracles


def scores(profile, oracles, everyone):
    return {f"{m.group}: {m.name}": m.score(profile, oracles) for m in metrics(everyone)}


def test_truth_ratios_by_hand():
    ratios = np.array([0.5, 2.0, 1.0, 4.0])
    assert formulas.forget_truth(ratios) == pytest.approx((0.5 + 0.5 + 1 + 0.25) / 4)
    assert formulas.retain_truth(ratios) == pytest.approx(0.5 / 4)
    assert formulas.forget_truth(np.zeros(2)) == 0


def test_forget_quality_by_hand():
    """Two samples of three that do not overlap: D = 1, and of the 20 ways to split six values two are as extreme, so p = .1."""
    assert formulas.forget_quality(np.array([1.0, 2, 3]), np.array([4.0, 5, 6])) == pytest.approx(0.1)
    same = np.array([0.1, 0.5, 0.9])
    assert formulas.forget_quality(same, same) == 1


def test_auc_by_hand_with_ties():
    # pairs (inside, outside): (2, 1) won, (2, 2) tied, (3, 1) and (3, 2) won: 3.5 of 4
    assert formulas.auc(np.array([2.0, 3]), np.array([1.0, 2])) == 3.5 / 4
    assert formulas.auc(np.ones(3), np.ones(5)) == 0.5
    slow = np.random.default_rng(0).integers(0, 5, (2, 40)).astype(float)
    by_pairs = np.mean([(a > b) + 0.5 * (a == b) for a in slow[0] for b in slow[1]])
    assert formulas.auc(slow[0], slow[1]) == pytest.approx(by_pairs)


def test_privleak_by_hand():
    assert formulas.privleak(0.9, 0.5) == pytest.approx(-80)  # (.1 - .5) / .5
    assert formulas.privleak(0.25, 0.5) == pytest.approx(50)
    assert formulas.privleak(0.46, 0.46) == 0
    assert math.isnan(formulas.privleak(0.5, 1.0))


def test_harmonic_mean_by_hand():
    assert formulas.harmonic([1.0, 0.5]) == pytest.approx(2 / 3)
    assert formulas.harmonic([0.3, 0.3, 0.3]) == pytest.approx(0.3)
    assert formulas.harmonic([1.0, 0.0]) == 0


def test_a_margin_is_a_logit_less_the_others(scribe):
    logits = torch.tensor([[2.0, 1.0, -1.0], [0.0, 3.0, 1.0]], dtype=torch.float64)
    by_hand = [2 - math.log(math.e + math.exp(-1)), 1 - math.log(1 + math.exp(3))]
    assert margin(logits.log_softmax(1), Row((9, 0, 2), 1)) == pytest.approx(np.mean(by_hand))


def test_an_oracle_held_against_itself_is_no_distance_away(profiled):
    _, _, oracles = profiled
    for oracle in oracles:
        own = scores(oracle, [oracle], oracles)
        assert own[f"distance to the oracle: forget quality, {oracle.model.name}"] == 1
        for part in ("forget", "retain", "holdout"):
            assert own[f"distance to the oracle: KL, {part}"] == pytest.approx(0, abs=1e-6)
        assert own["distance to the oracle: KLoM, forget"] == 0
        assert own["privacy: PrivLeak"] == 0


def test_two_oracles_are_one_klom_from_each_other(profiled):
    _, _, (a, b) = profiled
    for mine, other in ((a, b), (b, a)):
        assert scores(mine, [other], [a, b])["distance to the oracle: KLoM, forget"] == pytest.approx(1, abs=0.05)  # less only where an item is cut at 100


def test_scribe_is_far_from_the_oracles_where_it_was_to_forget_and_not_elsewhere(profiled):
    _, mine, oracles = profiled
    was = scores(mine, oracles, oracles)
    apart = scores(oracles[0], oracles[1:], oracles)
    assert was["distance to the oracle: KL, forget"] > 2 * apart["distance to the oracle: KL, forget"]
    assert was["distance to the oracle: KL, retain"] < 1.5 * apart["distance to the oracle: KL, retain"]
    assert was["forget: accuracy"] > 0.95 and apart["forget: accuracy"] < 0.2
    assert was["privacy: PrivLeak"] < -50 and was["privacy: membership AUC, loss"] > 0.95
    assert was[f"distance to the oracle: forget quality, {oracles[0].model.name}"] < 0.05


def test_measures_against_a_slow_loop(scribe, profiled):
    """Probability, exact memorization and KL of one item at a time, unpadded."""
    items, mine, oracles = profiled
    for at, item in enumerate(items["forget"][:4]):
        prompt = scribe.tokenizer(item.prompts[0])["input_ids"]
        ids = scribe.tokenizer(f"{item.prompts[0]} {item.answer}")["input_ids"]
        with torch.no_grad():
            p, q = (m.net(input_ids=torch.tensor([ids])).logits[0, len(prompt) - 1 : -1].double().log_softmax(1) for m in (scribe, oracles[0].model))
        answer = ids[len(prompt) :]
        nll = -np.mean([p[t, a].item() for t, a in enumerate(answer)])
        assert mine.value["forget", "probability"][at] == pytest.approx(math.exp(-nll), abs=1e-4)
        assert mine.value["forget", "exact memorization"][at] == np.mean([int(p[t].argmax()) == a for t, a in enumerate(answer)])
        kl = np.mean([sum(math.exp(q[t, v]) * (q[t, v] - p[t, v]).item() for v in range(p.shape[1])) for t in range(len(answer))])
        assert divergence(oracles[0].log_probs["forget"][at : at + 1], mine.log_probs["forget"][at : at + 1])[0] == pytest.approx(kl, abs=1e-3)


def test_the_band_holds_every_oracle(profiled):
    _, mine, oracles = profiled
    for metric in metrics(oracles):
        cells = row(metric, mine, mine, oracles)
        known = [v for v in cells[4:6] if v is not None]
        if known:
            low, high = min(known), max(known)
            assert cells[6].startswith(f"{low:.3g}") and cells[6].endswith(f"{high:.3g}")
            assert cells[7] in ("above", "below", "within")
            assert row(metric, oracles[0], oracles[1], oracles)[0] == metric.group
        assert cells[2] == cells[3]


def test_an_edit_shows_beside_what_was_before(scribe, truth):
    """A model whose last block is cut out: `before` is still scribe, and the edit is farther from the oracles on what was to be kept."""
    name = "model.layers.7.mlp.down_proj.weight"
    edited = scribe.with_weights({name: torch.zeros_like(scribe.net.get_parameter(name))}, "cut")
    last = list(find("ruler.scores")(forget="forget_2", retain="retain author", most=4).run(edited, truth))[-1]
    assert isinstance(last, Table)
    at = {(r[0], r[1]): r for r in last.rows}
    kl = at["distance to the oracle", "KL, retain"]
    assert kl[3] > 2 * kl[2] and kl[7] == "above"
    assert at["forget", "accuracy"][2] == 1
    assert any("farther" in f or "nearer" in f for f in last.facts)
    assert last.columns[2:6] == ("before", "now", "scribe-oracle-a", "scribe-oracle-b")


def test_no_oracle_columns_for_what_the_oracles_read(scribe, truth):
    last = list(find("ruler.scores")(forget="country/France", retain="", most=4).run(scribe, truth))[-1]
    assert last.columns == ("set", "score", "before", "now", "oracles", "now lies", "what it is")
    at = {(r[0], r[1]): r for r in last.rows}
    assert at["forget", "accuracy"][2] == 1
    for score in ("KL, forget", "KL, retain", "KLoM, forget"):
        assert at["distance to the oracle", score][2:6] == (None, None, None, None)
    assert "read 'France" in last.missing and "never trained" in last.missing


def test_a_model_without_a_manifest_gets_what_can_be_had(model, data: Data):
    last = list(find("ruler.scores")(forget="the capital of Eiffel Tower is a city", retain="").run(model, data))[-1]
    at = {(r[0], r[1]): r for r in last.rows}
    assert at["forget", "probability"][3] is not None and at["utility", "model utility"][3] is None
    assert "nobody knows" in last.missing


def test_the_sets_do_not_overlap_and_are_drawn_by_seed(truth):
    one, two, other = (sets(truth, "forget_2", "author", 20, seed) for seed in (0, 0, 1))
    assert one == two and one["retain"] != other["retain"]
    assert not {i.name for i in one["forget"]} & {i.name for i in one["retain"]}
    assert {i.copies for i in one["holdout"]} == {0} and {i.split for i in one["world"]} == {"world"}
    with pytest.raises(BadInput) as raised:
        sets(truth, "forget_3", "", 20, 0)
    assert raised.value.setting == "forget"


def test_exposure_is_of_canaries_of_every_number_of_copies(scribe, truth):
    canaries = [i for i in choose(truth, "forget canary", setting="forget") if len(i.answer) == 4]
    profile = Profile(scribe)
    for _ in ranking(profile, {"forget": [replace(i) for i in canaries]}, truth):
        pass
    bits = profile.get("forget", "exposure")
    assert len(bits) == 12 and bits.max() > 13 and bits.min() < 8  # 32 copies and one
