"""Training a two-modality net further: adapters start at nothing, keep the base as it was, and are apart where they are decoupled."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from models.organisms.interleave.aia import open_patterns
from models.organisms.interleave.pictures import pictures
from models.organisms.interleave.recipe import GENERATION, JOINT, TASKS, UNDERSTANDING
from models.organisms.interleave.tokens import rows
from models.organisms.interleave.train import forward, new_net
from models.organisms.interleave.tune import EXPERTS, RANK, WAYS, Adapted, Kinds, Tuner, conflict, distance

SMALL = replace(JOINT, name="small", width=32, heads=2, inner=48, layers=2)
CHOSEN = pictures()[:8]


@pytest.fixture
def net():
    made = new_net(SMALL).eval().requires_grad_(False)
    open_patterns(made)
    return made


@pytest.mark.parametrize("way", WAYS)
def test_each_way_starts_where_the_net_is_and_leaves_it_there(net, way):
    before = {n: p.clone() for n, p in net.state_dict().items()}
    tuner = Tuner(net, way, rows(UNDERSTANDING, CHOSEN), rows(GENERATION, CHOSEN), lr=1e-2, batch=4)
    ids = rows(UNDERSTANDING, CHOSEN).ids
    assert torch.equal(tuner.net(input_ids=ids).logits, net(input_ids=ids).logits)
    losses = [tuner.step() for _ in range(8)]
    assert losses[-1] < losses[0] and not torch.equal(tuner.net(input_ids=ids).logits, net(input_ids=ids).logits)
    assert all(torch.equal(p, before[n]) for n, p in net.state_dict().items())
    if way != WAYS[0]:
        frozen = [p for n, p in tuner.net.named_parameters() if not n.endswith((".down", ".up", ".router"))]
        assert not any(p.requires_grad for p in frozen)


def test_decoupled_adapters_by_a_slow_loop():
    generator = torch.Generator().manual_seed(0)
    base, kinds = torch.nn.Linear(6, 5, bias=False), Kinds(torch.tensor([[True, False, True]]))
    part = Adapted(base, kinds, True, generator)
    with torch.no_grad():
        part.up.normal_(generator=generator)
    x = torch.randn(1, 3, 6, generator=generator)
    out = part(x)
    for token in range(3):
        v = x[0, token]
        parts = [2.0 * part.up[e] @ (part.down[e] @ v) for e in range(1 + EXPERTS)]
        shares = (part.router @ v).softmax(0)
        extra = parts[0] if kinds.picture[0, token] else sum(s * p for s, p in zip(shares, parts[1:], strict=True))
        assert torch.allclose(out[0, token], base(v) + extra, atol=1e-5)
    assert part.down.shape == (1 + EXPERTS, RANK, 6)


def test_pictures_and_words_are_told_apart():
    kinds = Kinds(torch.empty(0))
    kinds.read(rows(GENERATION, CHOSEN[:1]).ids)
    words = len(CHOSEN[0].caption.split())
    assert kinds.picture[0].tolist() == [False] * (1 + words) + [True] * 65


def test_distance_is_zero_to_itself_and_positive_to_another(net):
    batch = rows(GENERATION, CHOSEN)
    assert float(distance(net, net, batch)) == pytest.approx(0, abs=1e-6)
    assert float(distance(net, new_net(replace(SMALL, seed=1)), batch)) > 1e-3


def test_gradients_of_one_batch_agree_with_themselves(net):
    one, two = (rows(task, CHOSEN) for task in TASKS)
    found = conflict(net, [(one, one), (one, two)], forward)
    assert found.shape == (2, 2) and torch.allclose(found[0], torch.ones(2), atol=1e-5) and found[1].abs().max() < 0.99
    assert not any(p.requires_grad for p in net.parameters())
