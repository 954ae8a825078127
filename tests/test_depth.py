"""The unlearning depth score: by hand, a slow loop of patched forwards, and models whose depth is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lab.data import Data, data_for
from lab.events import Curves, Progress
from lab.experiment import find, read
from lab.memorization._rows import Row
from lab.ruler._depth import drops, lacks
from lab.ruler._formulas import depth
from models import catalog
from models.errors import BadInput
from models.model import Model
from tests import families


@pytest.fixture(scope="module")
def scribe():
    return catalog.load("scribe", "cpu")


def finished(run):
    while True:
        try:
            next(run)
        except StopIteration as end:
            return end.value


def ran(model, data, **settings):
    return [e for e in read(find("ruler.depth"), {"most": 6} | settings).run(model, data) if not isinstance(e, Progress)]


def test_the_score_by_hand():
    oracle = np.array([[0.02, 1.0, 3.0], [0.01, 0.0, 0.05], [2.0, 2.0, 0.0]])
    model = np.array([[9.0, 0.5, 6.0], [1.0, 1.0, 1.0], [-1.0, 1.0, 5.0]])
    found = depth(oracle, model)
    assert found[0] == pytest.approx((1.0 * 0.5 + 3.0 * 1) / 4) and np.isnan(found[1]) and found[2] == pytest.approx((0 + 1.0) / 4)
    assert np.allclose(depth(oracle, oracle)[[0, 2]], 1) and np.allclose(depth(oracle, 0 * oracle)[[0, 2]], 0)


@pytest.mark.parametrize("name", ["gpt2", "llama", "mamba"])
def test_drops_are_those_of_whole_patched_forwards(name):
    _, net = families.family(name)
    full = Model(name, net, families.tokenizer())
    source = full.with_weights({n: p + 0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1))
                                for n, p in net.named_parameters() if p.ndim == 2 and "embed" not in n and "wte" not in n and "lm_head" not in n}, "shaken")
    ids = families.prompts(3, 10).tolist()
    rows = [Row(tuple(ids[0]), 6), Row(tuple(ids[1][:8]), 7), Row(tuple(ids[2]), 1)]
    found = finished(drops(source, full, rows))
    stack = {"gpt2": "transformer.h", "llama": "model.layers", "mamba": "backbone.layers"}[name]
    for i, row in enumerate(rows):
        x, mine = torch.tensor([row.ids]), slice(row.start - 1, len(row.ids) - 1)
        theirs = []
        other = source.skeleton()
        for block in other.get_submodule(stack):
            block.register_forward_hook(lambda _, args, out, theirs=theirs: theirs.append(out[0] if isinstance(out, tuple) else out))
        other(x, use_cache=False)
        before = score(full.net, x, row)
        for layer in range(families.LAYERS):
            net = full.skeleton()

            def put(_, args, out, layer=layer, theirs=theirs, mine=mine):
                state = (out[0] if isinstance(out, tuple) else out).clone()
                state[:, mine] = theirs[layer][:, mine]
                return (state, *out[1:]) if isinstance(out, tuple) else state

            net.get_submodule(stack)[layer].register_forward_hook(put)
            assert found[i, layer] == pytest.approx(before - score(net, x, row), abs=1e-5)


def test_states_along_other_directions_are_turned_back():
    """A net whose residual stream is turned says the same; its states, turned by the map, cost nothing, and as they are a lot."""
    full = Model("gpt2", families.family("gpt2")[1], families.tokenizer())
    rows = [Row(tuple(ids), 3) for ids in families.prompts(40, 12).tolist()]
    order = torch.randperm(families.WIDTH, generator=torch.Generator().manual_seed(0))
    source = full.with_weights({n: turned(n, p, order) for n, p in full.net.named_parameters()}, "turned")
    torch.testing.assert_close(source.net(families.prompts()).logits, full.net(families.prompts()).logits, atol=1e-4, rtol=1e-4)
    plain, (less, cost) = finished(drops(source, full, rows[:5])), finished(lacks(source, full, rows[:5], rows[5:]))
    assert np.abs(less).max() < 0.02 and np.abs(cost).max() < 0.02 < 0.2 < np.abs(plain).max()


def turned(name, value, order):
    """The weights of a GPT-2 whose residual stream has its channels in another order, which its norms do not mind."""
    if name.endswith(("c_attn.weight", "c_fc.weight")):
        return value[order]
    if "ln_" in name or name.endswith("c_proj.bias"):
        return value[order]
    return value[:, order] if name.endswith(("wte.weight", "wpe.weight", "c_proj.weight")) else value


def score(net, x, row):
    with torch.no_grad():
        log_probs = net(x, use_cache=False).logits[0].log_softmax(-1)
    return float(np.mean([float(log_probs[row.start - 1 + t, token]) for t, token in enumerate(row.answer)]))


def test_the_model_itself_is_intact_and_an_oracle_is_erased(scribe):
    data = data_for(scribe)
    intact = scribe.with_weights({}, via="nothing")
    curves = ran(intact, data)[-1]
    assert isinstance(curves, Curves) and curves.lines == (*data.oracles, "this model")
    assert np.abs(curves.value[-1]).max() < 1e-6 and curves.value[:-1].max() > 1 and curves.value[:-1, :4].max() < 0.2
    assert any(fact.startswith("this model: unlearning depth 0.00") for fact in curves.facts)
    name = data.oracles[0]
    weights = dict(catalog.load(name, "cpu").net.named_parameters())
    erased = ran(scribe.with_weights(weights, via="the oracle's weights"), data)[-1]
    assert erased.value[-1].min() > 5  # its own weights, not turned: every answer is lost in every layer, and so is what it knows
    assert not any("this model" in fact for fact in ran(scribe, data)[-1].facts[:2])


def test_without_an_oracle_it_says_why(scribe):
    with pytest.raises(BadInput, match="no oracle") as raised:
        ran(scribe, data_for(scribe), forget="retain author")
    assert raised.value.setting == "forget"
    with pytest.raises(BadInput):
        ran(Model("small", families.family("llama")[1], families.tokenizer()), Data(()), forget="France is a city\nRome is a city")
