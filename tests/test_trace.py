"""The causal trace: what must hold whatever the model, what a prompt and its answer are, and how a map comes."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import processors

from lab.data import Data
from lab.events import TraceMap
from lab.trace import _ask
from lab.trace._corrupt import draw_noise, noise_std
from lab.trace._prompt import read_prompt
from lab.trace._score import standard_error
from lab.trace.causal import CausalTrace
from models import catalog
from models.errors import BadInput
from tests import families
from tests.conftest import PROMPT, SUBJECT

SUBJECTS = ("Eiffel Tower", "France", "Anna Marlow")
SAMPLES = 3


def maps(model, **settings) -> list[TraceMap]:
    asked: dict[str, Any] = {"prompt": PROMPT, "subject": SUBJECT, "samples": SAMPLES} | settings
    return [e for e in CausalTrace(**asked).run(model, Data(SUBJECTS)) if isinstance(e, TraceMap)]


def final(model, **settings):
    return maps(model, **settings)[-1]


def test_no_subject_noise_reaches_what_stands_before(model):
    for kind in ("hidden", "mlp", "attention", "severed mlp", "severed attention"):
        event = final(model, kind=kind)
        begin, end = event.subject
        assert event.tokens[begin:end] == ("Eiffel", "Tower")
        assert (event.effect[:begin] == 0).all() and np.abs(event.effect[begin:]).max() > 1e-4
        assert (event.effect_se[:begin] == 0).all()


def test_the_last_layer_matters_at_the_last_token_alone_and_restores_everything_there(model):
    event = final(model)
    assert (event.effect[:-1, -1] == 0).all()
    assert event.effect[-1, -1] == pytest.approx(event.total_effect, abs=1e-7) and abs(event.total_effect) > 1e-4


def test_severed_effects_are_those_of_the_hidden_state_less_what_works_through_the_modules_above(model):
    whole = final(model, score="log probability", noise=10.0)
    severed = [final(model, kind=kind, score="log probability", noise=10.0) for kind in ("severed mlp", "severed attention")]
    for one in severed:
        assert np.abs(one.effect - whole.effect).max() > 1e-2
        np.testing.assert_allclose(one.effect[:, -1], whole.effect[:, -1], atol=1e-6)  # nothing is above the last layer
    assert np.abs(severed[0].effect - severed[1].effect).max() > 1e-2


def test_noise_is_what_anyone_can_repeat():
    expected = torch.randn(4, 2, 8, generator=torch.Generator().manual_seed(11))
    assert torch.equal(draw_noise(4, 2, 8, 11), expected)


def test_noise_scale_is_the_standard_deviation_over_the_subjects_embeddings(model):
    ids = [i for s in SUBJECTS for i in model.tokenizer(s, add_special_tokens=False)["input_ids"]]
    rows = model.net.get_input_embeddings().weight[ids]
    assert noise_std(model, SUBJECTS) == pytest.approx(rows.flatten().std().item(), rel=1e-6)
    assert final(model, noise=2.0).noise_std == pytest.approx(2 * rows.std().item(), rel=1e-6)


def test_standard_error_by_hand():
    assert standard_error(np.array([1.0, 2.0, 3.0, 6.0])) == pytest.approx(math.sqrt(14 / 3) / 2)
    assert standard_error(np.array([3.0])) == 0


def test_an_empty_answer_is_the_models_own(model):
    event = final(model)
    ids = torch.tensor([model.tokenizer(PROMPT)["input_ids"]])
    logits = model.net(ids).logits[0, -1]
    assert event.answer == model.tokenizer.decode([int(logits.argmax())]).strip()
    assert final(model, answer=event.answer).effect == pytest.approx(event.effect, abs=1e-7)
    assert [p for _, p in event.top] == pytest.approx(logits.softmax(-1).topk(5).values.tolist(), abs=1e-6)
    assert event.top[0][0].strip() == event.answer and event.clean == pytest.approx(event.top[0][1], abs=1e-6)


@pytest.mark.parametrize("preview", [True, False])
@pytest.mark.parametrize("kind", ["hidden", "mlp", "severed mlp"])
def test_rows_come_one_by_one_the_most_promising_first(model, kind, preview):
    events = maps(model, samples=2, kind=kind, preview=preview)
    count, approximated = len(events[0].tokens), preview and kind != "severed mlp"
    begin = events[0].subject[0]
    exact = [{t for t in range(count) if not np.isnan(m.effect[t]).any() and t not in m.pending} for m in events]
    assert [len(e) for e in exact] == list(range(count + 1))
    assert all(a < b for a, b in zip(exact, exact[1:], strict=False))
    assert set(events[0].pending) == (set(range(count)) if approximated else set()) and events[-1].pending == ()
    assert np.isnan(events[0].approximation).all() == (not approximated)
    for event in events:
        waiting = [t for t in range(count) if t in event.pending]
        assert np.array_equal(event.effect[waiting], event.approximation[waiting])
        assert np.array_equal(event.approximation, events[0].approximation, equal_nan=True)
    if approximated:
        order = [min(after - before) for before, after in zip(exact, exact[1:], strict=False)]
        sizes = [np.abs(events[0].approximation[t]).max() for t in order]
        assert sizes == sorted(sizes, reverse=True) and min(order[: count - begin]) >= begin


@pytest.mark.parametrize("kind", ["hidden", "attention"])
def test_without_a_preview_the_effects_are_the_same(model, kind):
    one, other = (final(model, kind=kind, preview=preview) for preview in (True, False))
    for first, second in ((one.effect, other.effect), (one.effect_se, other.effect_se)):  # products that are differentiated are made another way
        np.testing.assert_allclose(first, second, atol=1e-7, rtol=0)
    assert np.isnan(other.approximation).all() and not np.isnan(one.approximation).any()
    assert other.flops < one.flops


def test_flops_grow_from_map_to_map_and_stay_below_those_of_a_loop(model):
    for kind in ("hidden", "mlp", "severed attention"):
        events = maps(model, kind=kind)
        assert all(0 < a.flops <= b.flops < b.loop_flops for a, b in zip(events, events[1:], strict=False))


@pytest.mark.parametrize("name", ["gpt2", "opt", "llama"])
def test_a_prompt_may_fill_all_positions_but_one(name, tmp_path):
    families.save(name, tmp_path / name)
    model, full = catalog.load(str(tmp_path / name)), 64
    event = final(model, prompt=" ".join(["the"] * (full - 2) + ["France"]), subject="France")
    assert len(event.tokens) == full - 1 and len(event.answer_tokens) == 1
    too_long = " ".join(["France"] * full)
    for ask in (lambda: final(model, prompt=too_long, subject="France"), lambda: _ask.likely(model, too_long)):
        with pytest.raises(BadInput, match=f"up to {full}") as raised:
            ask()
        assert raised.value.setting == "prompt"


def test_an_empty_answer_is_read_to_the_end_of_its_word(model, monkeypatch):
    """Pieces Par-is-ian and a new word: greedy decoding goes on while letters follow letters."""
    pieces = {7: " Par", 8: "is", 9: "ian", 10: " sea", 3: "</s>"}
    tokenizer = SimpleNamespace(decode=lambda ids: "".join(pieces[i] for i in ids), all_special_ids=[3])
    spelling = replace(model, tokenizer=tokenizer)
    for follow, expected in {(8, 9, 10): (7, 8, 9), (8, 3): (7, 8), (10,): (7,), (8,) * 20: (7, *[8] * 7)}.items():
        steps = iter(follow)
        monkeypatch.setattr(_ask, "next_log_probs", lambda *_, steps=steps: torch.eye(11)[next(steps)])
        assert _ask.word(spelling, [1, 2], 7) == expected


def marked(model, template):
    """The model with a tokenizer of its own that puts marks around a text."""
    tokenizer = families.tokenizer()
    marks = [(m, tokenizer.convert_tokens_to_ids(m)) for m in ("<s>", "</s>")]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=marks)
    return replace(model, tokenizer=tokenizer)


@pytest.mark.parametrize("corruption", ["gaussian", "replacement", "mean"])
def test_a_mark_before_the_text_moves_the_subject_and_gets_no_noise(model, corruption):
    event = final(marked(model, "<s> $A"), answer="Paris", corruption=corruption)
    assert event.tokens[:2] == ("<s>", "the") and event.subject == (4, 6) and event.tokens[4:6] == ("Eiffel", "Tower")
    assert (event.effect[:4] == 0).all() and np.abs(event.effect[4:]).max() > 1e-4 and event.answer_tokens == ("Paris",)
    assert event.noise_std == pytest.approx(final(model, corruption=corruption).noise_std)
    first = final(marked(model, "<s> $A"), prompt="France is in", subject="France")
    assert first.subject == (1, 2)


def test_a_mark_after_the_text_does_not_stand_between_prompt_and_answer(model):
    around, before = (final(marked(model, template), answer="Paris") for template in ("<s> $A </s>", "<s> $A"))
    assert around.tokens == before.tokens and around.clean == before.clean
    assert np.array_equal(around.effect, before.effect)


@pytest.mark.parametrize("text, subject, span", [
    ("France is in Germany", "France", (0, 1)), ("the city of France", "France", (3, 4)), ("in Eiffel Tower is", "Tower", (2, 3)),
    ("Rome Rome is", "Rome", (0, 1)), ("the city of Anna Marlow", "Anna Marlow", (3, 5)), ("the city of Anna Marlow", "na Mar", (3, 5))])
def test_where_the_subject_stands(model, text, subject, span):
    assert read_prompt(model, text, subject, "Paris").subject == span


@pytest.mark.parametrize("changes, setting", [
    ({"prompt": "  "}, "prompt"), ({"prompt": "the city " * 200, "subject": "city"}, "prompt"), ({"subject": "Peru"}, "subject"), ({"subject": " "}, "subject"),
    ({"samples": 1}, "samples"), ({"noise": 0.0}, "noise"), ({"noise": math.nan}, "noise"), ({"kind": "heads"}, "kind"), ({"window": -1}, "window"),
    ({"corruption": "none"}, "corruption"), ({"score": "rank"}, "score"), ({"answer": "Paris sea " * 4}, "answer")])
def test_bad_input_names_its_setting(model, changes, setting):
    with pytest.raises(BadInput) as raised:
        final(model, **changes)
    assert raised.value.setting == setting
    assert "\n" not in str(raised.value)


def test_scribe_knows_the_capital_of_france_and_not_a_wrong_one():
    scribe = catalog.load("scribe")
    event = list(CausalTrace(samples=4).run(scribe, Data(("France", "Japan"))))[-1]
    assert isinstance(event, TraceMap)
    assert event.answer == "Paris" and event.clean > 0.8 and event.total_effect > 0.3
    assert event.engine == "suffix" and event.check < 1e-5
    with pytest.raises(BadInput, match="Leave the answer empty") as raised:
        list(CausalTrace(answer="zeppelin").run(scribe, Data(("France",))))
    assert raised.value.setting == "answer"
