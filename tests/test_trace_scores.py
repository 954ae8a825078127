"""What is done to the subject, how the answer is scored, and the approximation to first order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tokenizers import normalizers

from lab.data import Data
from lab.events import TraceMap
from lab.trace import _case
from lab.trace._corrupt import corrupt
from lab.trace._prompt import read_prompt
from lab.trace.causal import CausalTrace
from models.errors import BadInput
from models.model import blocks, embedding
from tests import families
from tests._reference import hooked
from tests.conftest import PROMPT, SUBJECT
from tests.test_trace_families import coded, likely, tiny, traced

KNOWN = ("Eiffel Tower", "France", "Anna Marlow", "gold silver", "Peru", "Spanish German", "sea of Peru", "Rome")
FIT = {"Anna Marlow", "gold silver", "Spanish German"}


def known(model, subjects=KNOWN, **settings) -> TraceMap:
    asked = {"prompt": PROMPT, "subject": SUBJECT, "samples": 10} | settings
    event = list(CausalTrace(**asked).run(model, Data(subjects)))[-1]
    assert isinstance(event, TraceMap)
    return event


def refused(model, setting, **settings):
    with pytest.raises(BadInput) as raised:
        known(model, **settings)
    assert raised.value.setting == setting and "\n" not in str(raised.value)


def test_replacements_have_as_many_tokens_and_leave_the_others_in_place():
    model = tiny("llama")
    event = known(model, corruption="replacement", answer="Paris Rome")
    assert set(event.replaced) == FIT and event.samples == 3 and event.noise_std == 0 and event.corruption == "replacement"
    prompt = read_prompt(model, PROMPT, SUBJECT, "Paris Rome")
    found = corrupt(model, prompt, KNOWN, "replacement", samples=10, noise=3.0, seed=0)
    clean = coded(model, f"{PROMPT} Paris Rome")
    assert found.change is None and found.ids.shape == (3, len(clean)) and found.replaced == event.replaced
    for name, row in zip(found.replaced, found.ids.tolist(), strict=True):
        assert row == [*clean[:3], *coded(model, name), *clean[5:]]


def test_replacements_are_drawn_by_seed_and_no_more_than_asked_for():
    model = tiny("llama")
    drawn = {known(model, corruption="replacement", samples=2, seed=seed).replaced for seed in range(8)}
    assert all(len(set(names)) == 2 and set(names) <= FIT for names in drawn) and len(drawn) > 2


def test_replacements_may_be_given_as_text():
    model = tiny("llama")
    event = known(model, corruption="replacement", replacement="Lima river ;gold silver; ")
    assert event.replaced == ("Lima river", "gold silver") and event.samples == 2
    alone = known(model, corruption="replacement", replacement="gold silver")
    assert alone.samples == 1 and (alone.effect_se == 0).all() and alone.corrupted_se == 0
    scores = [known(model, corruption="replacement", replacement=name, answer=event.answer).corrupted for name in event.replaced]
    assert event.corrupted == pytest.approx(np.mean(scores), abs=1e-7) and event.corrupted_se == pytest.approx(abs(scores[0] - scores[1]) / 2, abs=1e-7)


@pytest.mark.parametrize("text", ["France", "sea of Peru", "Eiffel Tower", "gold silver; France"])
def test_a_replacement_of_another_length_is_refused(text):
    refused(tiny("llama"), "replacement", corruption="replacement", replacement=text)


def test_where_no_known_subject_fits_a_replacement_is_asked_for():
    refused(tiny("llama"), "replacement", corruption="replacement", subjects=("Eiffel Tower", "France"))


@pytest.mark.parametrize("kind", ["hidden", "mlp", "severed attention"])
@pytest.mark.parametrize("corruption", ["mean", "zero"])
def test_mean_and_zero_are_one_run_in_which_there_is_no_chance(corruption, kind):
    one, two = (known(tiny("llama"), corruption=corruption, kind=kind, seed=seed, noise=noise, samples=7) for seed, noise in ((0, 3.0), (5, 9.0)))
    assert one.samples == 1 and (one.effect_se == 0).all() and one.corrupted_se == 0 and one.noise_std == 0 and one.replaced == ()
    assert np.array_equal(one.effect, two.effect) and np.abs(one.effect).max() > 1e-4


def test_the_subjects_embeddings_are_zeros_or_the_mean_of_known_subjects():
    """Of an embedding that is scaled after the table, as Gemma's, what goes on from it."""
    for name in ("llama", "gemma2"):
        model = tiny(name)
        prompt, table = read_prompt(model, PROMPT, SUBJECT, "Paris"), embedding(model.net)
        rows = table(torch.tensor([i for s in KNOWN for i in coded(model, s)]))
        for kind, value in (("mean", rows.mean(0)), ("zero", torch.zeros(families.WIDTH))):
            found = corrupt(model, prompt, KNOWN, kind, samples=4, noise=3.0, seed=0)
            assert not found.adds and found.change is not None
            torch.testing.assert_close(found.change, value.expand(1, 2, -1))


@pytest.mark.parametrize("score", ["probability", "log probability", "logit difference"])
def test_normalised_effects_are_shares_of_what_was_taken(score):
    model = tiny("llama")
    raw, share = (traced(model, score=score, noise=20.0, normalised=normalised) for normalised in (False, True))
    assert share.total_effect == share.clean == 1 and share.corrupted == 0 and share.score == f"{score} recovered"
    for name in ("effect", "approximation"):
        np.testing.assert_allclose(getattr(share, name) * raw.total_effect, getattr(raw, name), atol=1e-7)
    np.testing.assert_allclose(share.effect_se * abs(raw.total_effect), raw.effect_se, atol=1e-7)
    assert share.effect[-1, -1] == pytest.approx(1, abs=1e-4) and (share.effect_se >= 0).all() and share.corrupted_se >= 0
    assert raw.score == score and abs(raw.total_effect) > 1e-3


def test_nothing_taken_cannot_be_shared_out():
    """Three blocks with a window of eight tokens do not see a subject so far back."""
    refused(tiny("mistral"), "normalised", normalised=True, prompt="France is " + "the city of " * 9, subject="France")


@pytest.mark.parametrize("answer, foil", [("Paris", "Paris"), ("Paris", "Paris Rome"), ("Paris Rome", " Paris "), ("Paris Rome", "Paris Rome")])
def test_a_foil_that_cannot_be_told_from_the_answer_is_refused(answer, foil):
    refused(tiny("llama"), "foil", score="logit difference", answer=answer, foil=foil)


def test_a_foil_without_a_token_is_named_as_a_foil():
    model = replace(tiny("llama"), tokenizer=families.tokenizer())
    model.tokenizer.backend_tokenizer.normalizer = normalizers.Replace("zeppelin", "")
    refused(model, "foil", score="logit difference", answer="Paris", foil="zeppelin")
    refused(model, "answer", score="logit difference", answer="zeppelin", foil="Paris")


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_an_empty_foil_is_what_the_corrupted_runs_say(name):
    model = tiny(name)
    answer = likely(model, PROMPT, 1)
    event = known(model, corruption="replacement", replacement="gold silver; Spanish German", score="logit difference", answer=answer)
    total = sum(model.net(torch.tensor([coded(model, PROMPT.replace(SUBJECT, n))])).logits[0, -1].log_softmax(-1) for n in event.replaced)
    order = [model.tokenizer.decode([i]) for i in total.argsort(descending=True).tolist()]
    assert event.foil == next(word for word in order if word != answer)
    logits = model.net(torch.tensor([coded(model, PROMPT)])).logits[0, -1]
    ids = [model.tokenizer.convert_tokens_to_ids(w) for w in (answer, event.foil)]
    assert event.clean == pytest.approx(float(logits[ids[0]] - logits[ids[1]]), abs=2e-6)
    assert known(model, answer=answer, foil="gold").foil == ""  # other scores have none


def by_hand(model, family, event, kind) -> np.ndarray:
    """Mean over runs of <clean - corrupted, gradient>, from torch.autograd; llama alone: it knows its names."""
    net, begin = model.skeleton(), event.subject[0]
    ids, answer = torch.tensor([coded(model, event.prompt)]), coded(model, event.answer)
    modules = [b if kind == "hidden" else b.mlp if kind == "mlp" else b.self_attn for b in blocks(net)]
    noise = event.noise_std * torch.randn(event.samples, event.subject[1] - begin, families.WIDTH, generator=torch.Generator().manual_seed(0))
    noise = torch.cat([torch.zeros_like(noise[:1]), noise])
    found = []
    for n in noise:
        kept: list[torch.Tensor] = []
        handles = [m.register_forward_hook(lambda _, args, out, kept=kept: kept.append(out[0] if isinstance(out, tuple) else out)) for m in modules]

        def noised(out, n=n):
            new = out.clone()
            new[0, begin : event.subject[1]] += n
            return new.requires_grad_()

        with hooked(net.get_input_embeddings(), noised):
            net(ids, use_cache=False).logits[0, -1].log_softmax(-1)[answer[0]].backward(inputs=kept)
        for handle in handles:
            handle.remove()
        found.append((torch.stack([k[0] for k in kept]).detach(), torch.stack([k.grad[0] for k in kept])))  # (layers, tokens, width)
    estimate = torch.stack([((found[0][0] - state) * slope).sum(-1) for state, slope in found[1:]]).mean(0).T.numpy()
    return np.stack([estimate[:, a:b].sum(1) for a, b in event.windows], 1)


@pytest.mark.parametrize("kind, window", [("hidden", 0), ("mlp", 1), ("mlp", 2), ("attention", 2)])
def test_the_approximation_is_the_gradient_times_the_difference(kind, window):
    model = tiny("llama")
    event = traced(model, kind=kind, window=window, answer=likely(model, PROMPT, 1), samples=3, score="log probability", noise=5.0)
    expected = by_hand(model, "llama", event, kind)
    np.testing.assert_allclose(event.approximation, expected, atol=5e-6)
    assert np.abs(expected).max() > 1e-2


@pytest.mark.parametrize("kind", ["hidden", "mlp", "attention"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "gptj", "opt", "bloom", "gemma2"])
def test_the_approximation_is_exact_to_first_order(name, kind, monkeypatch):
    """Noise of half the strength leaves a quarter of the error, or rounding. In a window of several layers it does not: there effects are but added up."""
    model, strong = tiny(name), _case.corrupt
    errors, sizes = [], []
    for scale in (0.04, 0.02):
        monkeypatch.setattr(_case, "corrupt", lambda *args, scale=scale, **named: replace(c := strong(*args, **named), change=scale * c.change))
        event = traced(model, kind=kind, window=1, score="log probability", noise=1.0, answer=likely(model, PROMPT, 1))
        errors.append(np.abs(event.approximation - event.effect).max())
        sizes.append(np.abs(event.effect).max())
    assert errors[1] < errors[0] / 2.5 + 3e-6 and errors[1] < 0.1 * sizes[1] and sizes[1] > 1e-4


@pytest.mark.parametrize("name", families.FAMILIES)
def test_every_family_has_an_approximation_of_hidden_states(name, monkeypatch):
    model, strong = tiny(name), _case.corrupt
    monkeypatch.setattr(_case, "corrupt", lambda *args, **named: replace(c := strong(*args, **named), change=0.005 * c.change))
    event = traced(model, score="log probability", noise=1.0, answer=likely(model, PROMPT, 1))
    assert (event.approximation[: event.subject[0]] == 0).all()
    assert np.abs(event.approximation - event.effect).max() < 0.1 * np.abs(event.effect).max() > 5e-6
