"""Attention on memorized text against fresh, and of two models on one text."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lab.attention._compared import matched, other
from lab.attention._inputs import gathered
from lab.attention._memorized import MEASURES, halves, induction, use
from lab.attention.memorized import MEASURES as OFFERED
from lab.data import data_for
from lab.events import AttentionMap, Table
from models import catalog
from models.errors import BadInput
from tests.test_attention import DATA, events, mapped, patterns, tiny


@pytest.fixture(scope="module")
def scribe():
    return catalog.load("scribe")


def test_the_use_of_heads_by_hand():
    pattern = torch.tensor([[[[1.0, 0, 0, 0, 0], [0.5, 0.5, 0, 0, 0], [0.2, 0.2, 0.6, 0, 0], [0.1, 0.2, 0.3, 0.4, 0], [0, 0, 0, 1, 0]]]])
    ids = torch.tensor([[7, 8, 9, 8, 5]])
    back, entropy, sink, before, copied = use(pattern, ids)[:, 0, 0].tolist()
    assert halves(5).tolist() == [0, 1, 1, 2, 2]
    assert math.isclose(back, ((0.2 + 0.3) + 0) / 2, abs_tol=1e-6) and math.isclose(sink, (0.5 + 0.2 + 0.1 + 0) / 4, abs_tol=1e-6)
    assert math.isclose(before, (0.5 + 0.2 + 0.3 + 1) / 4, abs_tol=1e-6)
    assert math.isclose(copied, 0.3, abs_tol=1e-6)  # the second 8 puts this on the 9 that followed the first; no other token came before
    def h(*p):
        return -sum(x * math.log(x) for x in p)
    assert math.isclose(entropy, (h(0.5, 0.5) + h(0.2, 0.2, 0.6) + h(0.1, 0.2, 0.3, 0.4)) / 4, abs_tol=1e-6)
    assert torch.isnan(induction(pattern, torch.tensor([[1, 2, 3, 4, 5]]))).all() and OFFERED == MEASURES


def test_memorized_passages_stand_by_copies_against_fresh_ones(scribe):
    curves, grid, table = events("memorized", scribe, data_for(scribe), measure="entropy", show="table")
    assert curves.lines == ("fresh", "1 copy", "4 copies", "16 copies", "64 copies") and isinstance(table, Table)
    manifest = data_for(scribe).manifest
    fresh = [p["text"] for p in manifest["passages"] if p["copies"] == 0]
    length = min(len(scribe.tokenizer(p["text"])["input_ids"]) for p in manifest["passages"])
    found = []
    for text in fresh:
        truth, _ = patterns(scribe, text)
        p = truth[4][:, 1:length, :length].double()  # causal: what comes later changes nothing
        found.append(float(torch.special.entr(p).sum(-1).mean()))
    assert math.isclose(curves.value[0, 4], np.mean(found), abs_tol=1e-4)
    assert math.isclose(curves.error[0, 4], np.std(found, ddof=1) / len(found) ** 0.5, abs_tol=1e-4)
    row = next(r for r in table.rows if r[:2] == ("entropy", "64 copies"))
    assert math.isclose(row[3], curves.value[4].mean(), abs_tol=1e-6) and math.isclose(row[5], (curves.value[4] - curves.value[0]).mean(), abs_tol=1e-6)
    assert math.isclose(row[7], row[5] / row[6]) and math.isclose(grid.value.mean(), row[5], abs_tol=1e-6)
    assert len(table.rows) == 5 * len(MEASURES) and f"the first {length} tokens" in table.facts[-2]


@pytest.mark.parametrize("settings, setting", [({"fresh": "retain passage"}, "fresh"), ({"items": "holdout passage"}, "items"), ({"tokens": 200}, "tokens"),
                                               ({"fresh": "passage/1"}, "fresh"), ({"fresh": "passage/99", "items": "retain passage"}, "fresh")])
def test_bad_groups_are_named(scribe, settings, setting):
    with pytest.raises(BadInput) as raised:
        events("memorized", scribe, data_for(scribe), **settings)
    assert raised.value.setting == setting


# Two models


def test_a_model_beside_itself_differs_nowhere_and_an_edit_by_what_it_did(scribe):
    data = data_for(scribe)
    name = "model.layers.7.self_attn.q_norm.weight"
    edited = scribe.with_weights({name: torch.zeros_like(scribe.net.get_parameter(name))}, via="no queries")  # every logit is zero: uniform attention
    same = events("compared", scribe, data, against="scribe", texts="capital", most=3)
    assert isinstance(same[0], AttentionMap) and same[0].diverging and not np.abs(same[0].weight).max() and not np.nan_to_num(same[-1].value).any()
    text, curves, grid = events("compared", edited, data, texts="capital", most=3, layer=7, head=2)
    assert np.abs(grid.value[:, :7]).max() == 0 < np.abs(grid.value[:, 7]).max() and grid.diverging
    n = len(text.tokens)
    assert np.allclose(text.weight.sum(1), 0, atol=1e-5)
    plain = mapped(scribe, data, prompt=gathered(data, "capital", "", 3, 0, setting="texts")[0].text, layer=7, head=2)
    assert plain.tokens == text.tokens and np.allclose(text.weight, np.tril(np.ones((n, n))) / np.arange(1, n + 1)[:, None] - plain.weight, atol=1e-5)
    a, b = (events("intensity", m, data, texts="capital", most=3)[-1] for m in (scribe, edited))
    assert np.allclose(grid.value, b.value - a.value, atol=1e-6) and grid.rows == b.rows and set(curves.lines) >= {"A: answer → subject"}


def test_what_a_model_is_compared_with(scribe):
    data = data_for(scribe)
    one = scribe.with_weights({}, via="one")
    two = one.with_weights({}, via="two")
    assert other(two, data, "") is one is other(two, data, "before") and other(two, data, "original") is scribe
    assert other(scribe, data, "").name == "Scribe oracle A" or "oracle" in other(scribe, data, "").name
    for model, name, about in ((scribe, "before", data), (tiny("llama"), "", DATA), (scribe, "no such model", data)):
        with pytest.raises(BadInput) as raised:
            other(model, about, name)
        assert raised.value.setting == "against"
    assert matched(3, 8) == [0, 4, 7] and matched(8, 8) == list(range(8)) and matched(1, 4) == [0]


def test_models_of_other_tokens_and_depth_are_compared_by_segments(scribe):
    texts = "the capital of France is Paris\nAnna Marlow wrote a book about sea"
    found = events("compared", tiny("llama"), DATA, against="scribe", texts=texts, segments="thirds")
    assert not any(isinstance(e, AttentionMap) for e in found) and found[-1].columns == ("0", "1", "2") and np.abs(found[-1].value).max() > 0.01
    assert any("no map of tokens" in fact for fact in found[-1].facts)
