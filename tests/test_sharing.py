"""Heads that share: found, compared, grouped and fused, against weights whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lab.attention._share_alike import basis, budgets, cka, cosine, grouped, merges, shuffled
from lab.attention._share_find import find
from lab.attention._share_fuse import fused, outputs
from lab.attention.sharing import HeadSharing
from lab.data import Data, data_for
from lab.events import Curves, Grid, Progress
from lab.memorization._rows import Row
from models import catalog
from models.errors import BadInput
from models.model import Model
from tests import families

TEXTS = "the capital of France is Paris\nAnna Marlow wrote a book about the sea\ngold is a metal near Rome\nthe Eiffel Tower stands in Paris"


def small(name):
    return Model(name, families.family(name)[1], families.tokenizer())


def ran(model, data=None, **settings):
    settings = {"items": TEXTS} | settings
    return [e for e in HeadSharing(**settings).run(model, data or Data(())) if not isinstance(e, Progress)]


def heads_of(model, part, layer):
    one = find(model)[layer].part(part)
    return one, model.net.get_parameter(f"{one.name}.weight")


def written(model, part, layer, change):
    """The model with the (heads, size, inputs) rows of one layer's keys or values changed by `change`."""
    one, weight = heads_of(model, part, layer)
    new = weight.clone()
    one.put(new, change(one.rows(weight).clone()))
    return model.with_weights({f"{one.name}.weight": new}, "changed")


def rows(model):
    ids = families.prompts(6, 12).tolist()
    return [Row(tuple(i), 4) for i in ids]


def seen(model, layers, texts):
    reading = outputs(model, layers, texts)
    while True:
        try:
            next(reading)
        except StopIteration as end:
            return end.value


def logits(model):
    return model.net(families.prompts()).logits


def twins(rows):
    rows[1] = rows[0]
    return rows


@pytest.mark.parametrize("name", ["gpt2", "gpt_neox", "llama", "opt", "qwen2", "mistral", "phi3"])
def test_every_head_of_keys_and_values_is_found_with_channels_of_its_own(name):
    """Heads have channels of their own, as many as the config says, and keys none of the values'."""
    model = small(name)
    for parts in find(model).values():
        for part in ("keys", "values"):
            one = parts.part(part)
            everything = sorted(one.channels.flatten().tolist())
            assert len(set(everything)) == len(everything) == one.heads * families.WIDTH // families.HEADS
            assert one.heads == getattr(model.net.config, "num_key_value_heads", families.HEADS)
        assert not set(parts.keys.channels.flatten().tolist()) & set(parts.values.channels.flatten().tolist()) or parts.keys.name != parts.values.name
    assert len(find(model)) == families.LAYERS


def test_equal_heads_are_alike_and_fuse_at_no_cost():
    model = small("llama")
    for layer in range(families.LAYERS):
        for part in ("keys", "values"):
            model = written(model, part, layer, twins)
    layers = find(model)
    groups = {(part, layer): [[0, 1]] for part in ("keys", "values") for layer in layers}
    for how in (None, seen(model, layers, rows(model))):
        torch.testing.assert_close(logits(fused(model, layers, groups, how)), logits(model), atol=2e-5, rtol=1e-4)
    grid = ran(model, show="similarity", part="keys", by="cosine")[-1]
    assert isinstance(grid, Grid)
    np.testing.assert_allclose(grid.value, 1, atol=1e-5)


def test_turned_values_fuse_at_no_cost_in_least_squares_alone():
    model = small("llama")
    turn = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(1)))[0]

    def turned(rows):
        rows[1] = turn @ rows[0]
        return rows

    model = written(model, "values", 1, turned)
    layers = find(model)
    groups = {("values", 1): [[0, 1]]}
    exact, mean = logits(fused(model, layers, groups, seen(model, layers, rows(model)))), logits(fused(model, layers, groups, None))
    torch.testing.assert_close(exact, logits(model), atol=5e-4, rtol=1e-3)
    assert (mean - logits(model)).abs().max() > 1e-2
    assert ran(model, show="similarity", part="values", layer=1)[-1].value[0, 1] == pytest.approx(1, abs=1e-4)  # CKA does not mind a turn


def test_different_heads_cost_something_and_nothing_is_written_in_place():
    model = small("qwen2")
    before = {n: p.clone() for n, p in model.net.named_parameters()}
    curves = ran(model, fusion="mean")[-1]
    assert isinstance(curves, Curves) and curves.x.tolist() == [1, 2] and np.isfinite(curves.value).all()
    assert np.ptp(curves.value[:, 1]) == 0 and (np.abs(curves.value[:, 0] - curves.value[:, 1]) > 1e-4).all()
    assert all(torch.equal(p, before[n]) for n, p in model.net.named_parameters())


def test_similarities_by_hand():
    y = torch.tensor([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    turn = torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
    both = torch.cat([y, y @ turn], 1)
    moments = (both.T @ both).reshape(2, 2, 2, 2)
    assert cka(moments)[0, 1] == pytest.approx(1)
    assert cosine(moments)[0, 1] == pytest.approx(float((y * (y @ turn)).sum() / y.square().sum()))
    one = basis(moments)
    flat = one.reshape(4, 2)
    torch.testing.assert_close(both @ flat @ flat.T, both)  # two directions hold all of it


def test_groups_come_from_average_linkage():
    alike = np.array([[1, 0.9, 0.1, 0.2], [0.9, 1, 0.3, 0.2], [0.1, 0.3, 1, 0.6], [0.2, 0.2, 0.6, 1]])
    order = merges(alike)
    assert [(i, j) for _, i, j in order] == [(0, 1), (2, 3), (0, 2)] and order[2][0] == pytest.approx(0.2)
    assert grouped(4, order, 2) == [[0, 1], [2, 3]]
    assert [len(g) for g in shuffled([[0, 1, 2], [3]], torch.Generator().manual_seed(0))] == [3, 1]
    assert budgets({0: order, 1: [(0.05, 0, 1), (0.04, 0, 2), (0.03, 0, 3)]}, 3, equal=False) == {0: 2, 1: 0}
    assert budgets({0: order, 1: order}, 3, equal=True) == {0: 1, 1: 1}


@pytest.mark.parametrize("settings", [{"show": "similarity"}, {"budget": "by similarity", "measure": "recall"}, {"of": "weights", "by": "cosine"}])
def test_on_scribe_every_figure_is_whole(settings):
    model = catalog.load("scribe")
    event = ran(model, data_for(model), items="sample", most=4, **settings)[-1]
    assert np.isfinite(event.value).all()
    if isinstance(event, Grid):
        assert len(event.rows) == model.net.config.num_hidden_layers * model.net.config.num_key_value_heads
        assert event.value.min() >= 0 and event.value.max() <= 1 + 1e-9


def test_what_cannot_be_fused_says_why():
    with pytest.raises(BadInput, match="cannot be fused"):
        ran(small("mamba"))
    with pytest.raises(BadInput) as raised:
        ran(small("llama"), show="similarity", layer=7)
    assert raised.value.setting == "layer"
