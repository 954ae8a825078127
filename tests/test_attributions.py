"""Attributions against gradients taken by hand, a loop that leaves tokens out, and the sum that they must have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from captum.attr import FeatureAblation, LayerIntegratedGradients, LLMAttribution, LLMGradientAttribution, TextTokenInput
from tokenizers import processors

from lab.data import Data
from lab.events import Grid
from lab.trace import attributions
from lab.trace.attributions import METHODS, Attributions, absent
from models import catalog
from models.errors import BadInput
from tests import families
from tests.conftest import PROMPT

ANSWER = "Paris Rome"  # two tokens
PLAIN, CHANGE, ABLATION, PATH = range(len(METHODS))


def grids(model, **settings):
    return [e for e in Attributions(**{"prompt": PROMPT, "answer": ANSWER} | settings).run(model, Data(())) if isinstance(e, Grid)]


def final(model, **settings):
    return grids(model, **settings)[-1]


def loaded(name, folder):
    families.save(name, folder / name)
    return catalog.load(str(folder / name))


def by_hand(model):
    """(embeddings of the prompt, f of such embeddings), without captum and without hooks."""
    net, table = model.skeleton(), model.net.get_input_embeddings()
    ids, answer = (torch.tensor(model.tokenizer(text)["input_ids"]) for text in (PROMPT, ANSWER))
    after = table(answer)

    def f(embedded):
        logits = net(inputs_embeds=torch.cat([embedded, after]).unsqueeze(0), use_cache=False).logits[0, len(ids) - 1 : -1]
        return logits.log_softmax(-1).gather(1, answer.unsqueeze(1)).sum()

    return table(ids).detach(), f


def gradient(f, at):
    at = at.clone().requires_grad_()
    return torch.autograd.grad(f(at), at)[0]


@pytest.mark.parametrize("name", families.FAMILIES)
def test_gradients_and_ablations_are_those_taken_by_hand(name, tmp_path):
    model = loaded(name, tmp_path)
    event, missing = final(model, baseline="mean", steps=8), absent(model, "mean")
    x, f = by_hand(model)
    slope = gradient(f, x)
    left_out = []
    with torch.no_grad():
        for token in range(len(x)):
            changed = x.clone()
            changed[token] = missing
            left_out.append(float(f(x) - f(changed)))
    np.testing.assert_allclose(event.value[PLAIN], (slope * x).sum(1), atol=1e-4)
    np.testing.assert_allclose(event.value[CHANGE], (slope * (x - missing)).sum(1), atol=1e-4)
    np.testing.assert_allclose(event.value[ABLATION], left_out, atol=1e-4)
    assert np.abs(event.value[ABLATION]).max() > 1e-2 and np.abs(event.value[CHANGE]).max() > 1e-2  # so that zeros would not pass


@pytest.mark.parametrize("baseline", ["mean", "token"])
@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "mamba"])
def test_integrated_gradients_are_complete_and_the_mean_of_gradients_on_the_path(name, baseline, tmp_path):
    model = loaded(name, tmp_path)
    event, missing = final(model, baseline=baseline, steps=200), absent(model, baseline)
    x, f = by_hand(model)
    with torch.no_grad():
        whole = float(f(x) - f(missing.expand_as(x)))
    assert event.value[PATH].sum() == pytest.approx(whole, abs=2e-3)
    middles = [(i + 0.5) / 400 for i in range(400)]
    mean = sum(gradient(f, missing + a * (x - missing)) for a in middles) / len(middles)
    np.testing.assert_allclose(event.value[PATH], ((x - missing) * mean).sum(1), atol=2e-3)
    assert f"should to {whole:.3f}" in event.facts[-1]


def test_captums_own_classes_for_language_models_say_the_same(model):
    """Here, where the tokenizer puts no mark after a text and its tokens are whole words, they can be used."""
    net, event = model.skeleton(), final(model, baseline="token", steps=16)
    tokens, target = TextTokenInput(PROMPT, model.tokenizer, baselines=0), torch.tensor(model.tokenizer(ANSWER)["input_ids"])
    ablated = LLMAttribution(FeatureAblation(net), model.tokenizer).attribute(tokens, target=target, forward_in_tokens=False)
    path = LayerIntegratedGradients(net, net.get_input_embeddings())
    integrated = LLMGradientAttribution(path, model.tokenizer).attribute(tokens, target=target, n_steps=16)
    np.testing.assert_allclose(event.value[ABLATION], ablated.seq_attr, atol=1e-5)
    np.testing.assert_allclose(event.value[PATH], integrated.seq_attr, atol=1e-5)


def test_more_steps_close_the_gap(model):
    few, many = (final(model, steps=steps) for steps in (8, 256))
    gap = [float(e.facts[-1].split("gap ")[1].split()[0]) for e in (few, many)]
    assert gap[1] < 1e-3 and gap[1] <= gap[0]


def test_how_steps_are_cut_into_batches_changes_nothing(model, monkeypatch):
    whole = final(model)
    monkeypatch.setattr(attributions, "FLOATS", 1)
    np.testing.assert_allclose(final(model).value, whole.value, atol=1e-5)


def test_what_an_absent_token_is(model):
    table = model.net.get_input_embeddings().weight
    torch.testing.assert_close(absent(model, "mean"), table.mean(0))
    assert torch.equal(absent(model, "token"), table[model.tokenizer.pad_token_id])
    assert torch.equal(absent(model, "zero"), torch.zeros(families.WIDTH))
    bare = families.tokenizer()
    bare.pad_token = bare.eos_token = bare.unk_token = None
    with pytest.raises(BadInput) as raised:
        final(replace(model, tokenizer=bare), baseline="token", answer="Paris")
    assert raised.value.setting == "baseline"


def test_a_token_that_is_absent_already_counts_for_nothing(model):
    event = final(model, prompt="the capital <pad> France", baseline="token")
    assert event.columns[2] == "<pad>"
    np.testing.assert_allclose(event.value[[CHANGE, ABLATION, PATH], 2], 0, atol=1e-6)


def test_rows_come_one_by_one(model):
    done = [int((~np.isnan(g.value)).all(1).sum()) for g in grids(model)]
    assert done == [1, 2, 3, 4]
    assert grids(model)[0].rows == METHODS and grids(model)[0].diverging and grids(model)[0].columns == tuple(PROMPT.split())


def test_a_mark_after_the_text_does_not_stand_between_prompt_and_answer(model):
    tokenizer = families.tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    assert np.array_equal(final(replace(model, tokenizer=tokenizer)).value, final(model).value)


def test_an_empty_answer_is_the_models_own(model):
    event = final(model, answer="")
    ids = torch.tensor([model.tokenizer(PROMPT)["input_ids"]])
    own = model.tokenizer.decode([int(model.net(ids).logits[0, -1].argmax())])
    assert event.title.endswith(own) and f"log P({own}" in event.facts[0]


@pytest.mark.parametrize("changes, setting", [({"prompt": " "}, "prompt"), ({"prompt": "the city " * 200}, "prompt"), ({"steps": 7}, "steps"),
                                              ({"baseline": "noise"}, "baseline")])
def test_bad_input_names_its_setting(model, changes, setting):
    with pytest.raises(BadInput) as raised:
        final(model, **changes)
    assert raised.value.setting == setting


def test_scribe_cannot_name_paris_without_capital_and_is_blind_to_the_length_of_embeddings():
    event = final(catalog.load("scribe"), prompt="The capital of France is", answer="")
    assert event.title.endswith("Paris") and event.value[ABLATION, event.columns.index("capital")] > 3
    np.testing.assert_allclose(event.value[PLAIN], 0, atol=1e-2)
    assert np.abs(event.value[CHANGE]).max() > 1e-2
