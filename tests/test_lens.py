"""The logit lens: its last column is the model, its others are norm and head by hand, on every architecture."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lab.data import Data
from lab.events import Grid
from lab.trace._lens import appears
from lab.trace._tail import Tail, asked
from lab.trace.lens import LogitLens
from models import catalog
from models.errors import BadInput
from models.model import Model, blocks
from tests import families
from tests.conftest import PROMPT


def grids(model, **settings):
    return [e for e in LogitLens(**{"prompt": PROMPT} | settings).run(model, Data(())) if isinstance(e, Grid)]


def final(model, **settings):
    return grids(model, **settings)[-1]


@pytest.mark.parametrize("name", families.FAMILIES)
def test_the_last_layer_is_the_model_itself(name):
    model, ids = Model(name, families.family(name)[1]), families.prompts(1)
    tail = Tail(model.skeleton(), ids)
    with torch.no_grad():
        real = model.net(input_ids=ids).logits[0].log_softmax(-1)
    assert len(tail.states) == families.LAYERS
    torch.testing.assert_close(tail.log_probs(families.LAYERS - 1), real, atol=1e-5, rtol=0)
    assert (tail.log_probs(0) - real).abs().max() > 1e-2  # so that a lens which shows the last layer everywhere would not pass


@pytest.mark.parametrize("name", families.FAMILIES)
def test_a_layer_is_what_the_net_says_when_later_blocks_are_cut_out(name):
    """Hooks that make every later block hand on its input: another way to the same figure."""
    model, ids = Model(name, families.family(name)[1]), families.prompts(1)
    net = model.skeleton()
    for block in blocks(net)[1:]:
        block.register_forward_hook(lambda _, args, kwargs, out: pass_on(args[0] if args else kwargs["hidden_states"], out), with_kwargs=True)
    with torch.no_grad():
        cut = net(input_ids=ids, use_cache=False).logits[0].log_softmax(-1)
    torch.testing.assert_close(Tail(model.skeleton(), ids).log_probs(0), cut, atol=1e-5, rtol=0)


def pass_on(state, output):
    return (state, *output[1:]) if isinstance(output, tuple) else state


@pytest.mark.parametrize("name, norm", [("llama", "model.norm"), ("gpt2", "transformer.ln_f"), ("gpt_neox", "gpt_neox.final_layer_norm")])
def test_figures_are_norm_and_head_by_hand(name, norm, tmp_path):
    families.save(name, tmp_path / name)
    model = catalog.load(str(tmp_path / name))
    event, net, states = final(model, answer="Paris"), model.skeleton(), []
    for block in blocks(net):
        block.register_forward_hook(lambda _, args, out: states.append(out[0] if isinstance(out, tuple) else out))
    ids = torch.tensor([model.tokenizer(PROMPT)["input_ids"]])
    paris = model.tokenizer.convert_tokens_to_ids("Paris")
    with torch.no_grad():
        net(input_ids=ids)
        said = [net.get_output_embeddings()(net.get_submodule(norm)(s))[0].softmax(-1) for s in states]
    np.testing.assert_allclose(event.value, np.stack([p[:, paris].numpy() for p in said], 1), atol=1e-6)
    likeliest = [[model.tokenizer.decode([i]) for i in p.argmax(-1)] for p in said]
    assert event.notes == tuple(zip(*likeliest, strict=True))
    assert event.rows == tuple(PROMPT.split()) and event.columns == ("0", "1", "2") and np.isnan(event.error).all()


def test_columns_come_one_by_one(model):
    done = [int((~np.isnan(g.value)).all(0).sum()) for g in grids(model)]
    assert done == [1, 2, 3]
    for grid, n in zip(grids(model), done, strict=True):
        assert all(bool(word) == (i < n) for row in grid.notes for i, word in enumerate(row))


def test_an_empty_answer_is_the_models_own(model):
    event = final(model)
    own = asked(model, PROMPT, "")
    assert event.notes[-1][-1] == model.tokenizer.decode([own.answer_ids[0]])
    assert event.value[-1, -1] == pytest.approx(float(model.net(torch.tensor([own.ids])).logits[0, -1].softmax(-1).max()), abs=1e-6)
    assert np.array_equal(final(model, answer=own.answer).value, event.value)
    assert "likeliest word from layer" in event.facts[0]


def test_from_which_layer_on_by_hand(model):
    prompt = asked(model, PROMPT, "Paris")
    value = np.array([0.1, 0.5, 0.2, 0.6, 0.7])
    assert "from layer 3 on, at 0.600, and ends at 0.700" in appears(prompt, value, np.array([0, 1, 0, 1, 1], bool))
    assert "from layer 0 on" in appears(prompt, value, np.ones(5, bool))
    assert "does not say 'Paris'" in appears(prompt, value, np.array([1, 1, 1, 1, 0], bool))


@pytest.mark.parametrize("changes, setting", [({"prompt": "  "}, "prompt"), ({"prompt": "the city " * 200}, "prompt")])
def test_bad_input_names_its_setting(model, changes, setting):
    with pytest.raises(BadInput) as raised:
        final(model, **changes)
    assert raised.value.setting == setting


def test_scribe_finds_paris_late():
    event = final(catalog.load("scribe"), prompt="The capital of France is", answer="")
    assert "Paris" in event.title and event.notes[-1][-1] == "Paris"
    assert event.value[-1, -1] > 0.8 and event.value[-1, 0] < 0.05
