"""The trace against a loop that runs one cell of one corrupted run at a time, on many architectures, and in every kind, corruption and score."""

from __future__ import annotations

import functools
import math
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from lab.data import Data
from lab.events import TraceMap
from lab.trace.causal import CausalTrace
from models import catalog
from models.errors import BadInput
from models.model import Model
from tests import families
from tests._reference import Loop, Run, noisy
from tests.conftest import PROMPT, SUBJECT

SUBJECTS = ("Eiffel Tower", "France", "Anna Marlow")
RECURRENT = ("mamba", "jamba")
KINDS = ("mlp", "attention", "severed mlp", "severed attention")
MIXED = [*product(("gpt2", "gpt_neox", "gptj", "llama", "gemma2", "opt", "bloom", "jamba"), KINDS),
         *product(("gemma3", "olmo2", "phi", "phi3", "mistral", "falcon", "mixtral"), ("mlp", "severed attention")),
         *product(("gpt_neo", "qwen3", "stablelm"), ("attention", "severed mlp"))]


@functools.cache
def tiny(name: str) -> Model:
    return Model(name, families.family(name)[1], families.tokenizer())


def traced(model: Model, **settings: Any) -> TraceMap:
    asked = {"prompt": PROMPT, "subject": SUBJECT, "samples": 2} | settings
    event = list(CausalTrace(**asked).run(model, Data(SUBJECTS)))[-1]
    assert isinstance(event, TraceMap) and event.pending == ()
    return event


def coded(model: Model, text: str) -> list[int]:
    return model.tokenizer(text)["input_ids"]


@torch.no_grad()
def likely(model: Model, prompt: str, count: int) -> str:
    """So many words, each the model's likeliest after those before."""
    answer: list[int] = []
    while len(answer) < count:
        logits = model.net(torch.tensor([coded(model, prompt) + answer])).logits[0, -1, len(families.MARKS):]
        answer.append(int(logits.argmax()) + len(families.MARKS))
    return model.tokenizer.decode(answer)


def expected(model: Model, event: TraceMap, family: str, seed: int = 0) -> tuple[np.ndarray, float, np.ndarray]:
    """Scores of all cells, of the clean and of the corrupted runs, from what the map says was asked."""
    net, before, answer = model.skeleton(), coded(model, event.prompt), coded(model, event.answer)
    ids, table = torch.tensor([*before, *answer[:-1]]), net.get_input_embeddings()
    foil, step = -1, 0
    if event.score == "logit difference":
        foil, step = next((b, i) for i, (a, b) in enumerate(zip(answer, coded(model, event.foil), strict=False)) if a != b)
    if event.corruption == "replacement":
        runs = [Run(torch.tensor([*coded(model, event.prompt.replace(" ".join(event.tokens[slice(*event.subject)]), name)), *answer[:-1]]))
                for name in event.replaced]
    elif event.corruption == "gaussian":
        runs = noisy(ids, event.subject, table.weight.shape[1], event.noise_std, event.samples, seed)
    else:
        with torch.no_grad():
            mean = table(torch.tensor([i for s in SUBJECTS for i in coded(model, s)])).float().mean(0) * (event.corruption == "mean")
        runs = [Run(ids, lambda x: mean.expand(x.shape))]
    loop = Loop(family, net, event.subject, len(before), answer, event.score, foil, step)
    return loop.map(Run(ids), runs, event.kind, event.windows)


def same(event: TraceMap, scores: np.ndarray, clean: float, corrupted: np.ndarray, tolerance: float, least: float) -> None:
    """The map is that of the loop to `tolerance`, and holds effects of `least`, so that a map of zeros or of another kind would not pass."""
    runs = len(corrupted)
    assert event.samples == runs and event.clean == pytest.approx(clean, abs=tolerance)
    assert event.corrupted == pytest.approx(corrupted.mean(), abs=tolerance)
    effect = scores.mean(2) - corrupted.mean()
    np.testing.assert_allclose(event.effect, effect, atol=tolerance, rtol=0)
    errors = (scores - corrupted).std(2, ddof=1) / math.sqrt(runs) if runs > 1 else np.zeros_like(effect)
    np.testing.assert_allclose(event.effect_se, errors, atol=tolerance, rtol=0)
    assert np.abs(effect).max() > least >= 100 * tolerance


@pytest.mark.parametrize("name", families.FAMILIES)
def test_equals_a_plain_loop(name, tmp_path):
    families.save(name, tmp_path / name)
    model = catalog.load(str(tmp_path / name))
    event = traced(model, answer=likely(model, PROMPT, 2), samples=3, noise=10.0)
    assert len(event.answer_tokens) == 2
    assert event.engine == ("restart" if name in RECURRENT else "suffix") and event.check < 1e-6
    same(event, *expected(model, event, name), 1e-7, 5e-5)  # two tokens have a probability of about 1e-3


@pytest.mark.parametrize("name, kind", MIXED)
def test_other_kinds_equal_a_plain_loop(name, kind):
    model = tiny(name)
    event = traced(model, answer=likely(model, PROMPT, 2), kind=kind, score="log probability", noise=20.0)
    assert event.kind == kind and event.engine == ("restart" if name in RECURRENT else "suffix") and event.check < 5e-6
    same(event, *expected(model, event, name), 5e-6, 1e-2)


@pytest.mark.parametrize("kind", KINDS)
def test_a_recurrent_model_has_hidden_states_alone(kind):
    with pytest.raises(BadInput, match="to restore") as raised:
        traced(tiny("mamba"), kind=kind)
    assert raised.value.setting == "kind"


@pytest.mark.parametrize("kind", ["hidden", "mlp", "severed attention"])
@pytest.mark.parametrize("corruption", ["gaussian", "replacement", "mean", "zero"])
@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2"])  # Gemma scales its embeddings after the table
def test_corruptions_equal_a_plain_loop(name, corruption, kind):
    model = tiny(name)
    event = traced(model, answer=likely(model, PROMPT, 2), kind=kind, corruption=corruption, score="log probability", noise=20.0, seed=5)
    same(event, *expected(model, event, name, seed=5), 5e-6, 1e-2)


@pytest.mark.parametrize("kind", ["hidden", "attention", "severed mlp"])
@pytest.mark.parametrize("score, foil", [("probability", ""), ("log probability", ""), ("logit difference", "Paris"),
                                         ("logit difference", "{first} Paris river"), ("logit difference", "")])
def test_scores_of_an_answer_of_two_tokens_equal_a_plain_loop(score, foil, kind):
    model = tiny("gptj")
    answer = likely(model, PROMPT, 2)
    foil = foil.format(first=answer.split()[0])
    event = traced(model, answer=answer, foil=foil, kind=kind, score=score, noise=20.0)
    assert event.score == score and len(event.answer_tokens) == 2
    assert event.foil == foil if foil else bool(event.foil) == (score == "logit difference")
    same(event, *expected(model, event, "gptj"), *((1e-7, 5e-5) if score == "probability" else (5e-6, 5e-3)))


def deep(layers: int) -> Model:
    _, sizes = families.FAMILIES["gpt2"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(families.FAMILIES, "gpt2", ("gpt2", sizes | {"n_layer": layers}))
        return Model("deep", families.family("gpt2")[1], families.tokenizer())


@pytest.mark.parametrize("kind, width", [("mlp", 1), ("attention", 3), ("mlp", 4), ("attention", 200), ("severed mlp", 0)])
def test_windows_of_every_width_equal_a_plain_loop(kind, width):
    """Windows that begin at one layer and end at several share a trajectory and part later: five blocks have room for it."""
    model = deep(5)
    event = traced(model, prompt="in France is", subject="France", answer="Paris", kind=kind, window=width, score="log probability", noise=20.0)
    same(event, *expected(model, event, "gpt2"), 5e-6, 1e-2)
