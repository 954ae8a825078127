"""The trace against a loop that runs one cell at a time, on many architectures, and what must hold whatever the model."""

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
from lab.trace import _ask, _restore
from lab.trace._prompt import read_prompt
from lab.trace.causal import CausalTrace
from models import catalog
from models.errors import BadInput
from models.model import blocks
from tests import families
from tests.conftest import PROMPT, SUBJECT

SUBJECTS = ("Eiffel Tower", "France", "Anna Marlow")
SAMPLES = 3


def final(model, **settings):
    asked: dict[str, Any] = {"prompt": PROMPT, "subject": SUBJECT, "samples": SAMPLES} | settings
    return list(CausalTrace(**asked).run(model, Data(SUBJECTS)))[-1]


def hidden(output):
    return output[0] if isinstance(output, tuple) else output


def put_back(output, value):
    return (value, *output[1:]) if isinstance(output, tuple) else value


@torch.no_grad()
def plain_loop(model, event, answer_ids, seed=0):
    """(tokens, layers) effects, clean and corrupted probability: one forward a cell and a sample, and nothing clever."""
    net, prompt_ids = model.skeleton(), model.tokenizer(event.prompt)["input_ids"]
    ids, start = torch.tensor([[*prompt_ids, *answer_ids]]), len(prompt_ids)
    begin, end = event.subject
    noise = torch.randn(SAMPLES, end - begin, net.get_input_embeddings().weight.shape[1], generator=torch.Generator().manual_seed(seed)) * event.noise_std

    def probability():
        log_probs = net(input_ids=ids, use_cache=False).logits[0].float().log_softmax(-1)
        return math.exp(sum(log_probs[start - 1 + i, a].item() for i, a in enumerate(answer_ids)))

    clean: dict[int, torch.Tensor] = {}
    handles = []
    for layer, block in enumerate(blocks(net)):
        handles.append(block.register_forward_hook(lambda _, args, out, layer=layer: clean.__setitem__(layer, hidden(out).clone())))
    p_clean = probability()
    for handle in handles:
        handle.remove()
    scores = np.zeros((start, len(clean), SAMPLES))
    corrupted = np.zeros(SAMPLES)
    for n in range(SAMPLES):
        def add_noise(_, args, out, n=n):
            out = out.clone()
            out[0, begin:end] += noise[n]
            return out

        noisy = net.get_input_embeddings().register_forward_hook(add_noise)
        corrupted[n] = probability()
        for token in range(start):
            for layer, block in enumerate(blocks(net)):
                def restore(_, args, out, token=token, layer=layer):
                    value = hidden(out).clone()
                    value[0, token] = clean[layer][0, token]
                    return put_back(out, value)

                restoring = block.register_forward_hook(restore)
                scores[token, layer, n] = probability()
                restoring.remove()
        noisy.remove()
    return scores, p_clean, corrupted


@pytest.mark.parametrize("name", families.FAMILIES)
def test_equals_a_plain_loop(name, tmp_path):
    families.save(name, tmp_path / name)
    model = catalog.load(str(tmp_path / name))
    answer: list[int] = []
    while len(answer) < 2:  # two tokens that the model finds likely
        ids = torch.tensor([model.tokenizer(PROMPT)["input_ids"] + answer])
        answer.append(int(model.net(ids).logits[0, -1, len(families.MARKS):].argmax()) + len(families.MARKS))
    event = final(model, answer=model.tokenizer.decode(answer))
    assert len(event.answer_tokens) == 2
    scores, clean, corrupted = plain_loop(model, event, answer)
    assert abs(clean - event.clean) < 1e-6 and abs(corrupted.mean() - event.corrupted) < 1e-6
    np.testing.assert_allclose(event.effect, scores.mean(2) - corrupted.mean(), atol=1e-6)
    errors = (scores - corrupted).std(2, ddof=1) / math.sqrt(SAMPLES)
    np.testing.assert_allclose(event.effect_se, errors, atol=1e-6)
    assert np.abs(event.effect).max() > 1e-5  # so that a map of zeros would not pass


def test_restoring_clean_states_into_a_clean_run_changes_nothing(model):
    rig = _restore.Rig(model.skeleton(), torch.tensor(model.tokenizer(PROMPT)["input_ids"]), (3, 5), torch.tensor([5]), keep=[])
    before = rig.probability(1)
    rig.noise = torch.zeros(3, 2, families.WIDTH)
    for token in range(len(rig.ids)):
        rig.token, rig.restore = token, torch.arange(3)
        assert torch.allclose(rig.probability(3), before.expand(3), atol=1e-7)


def test_no_subject_noise_reaches_what_stands_before(model):
    event = final(model)
    begin, end = event.subject
    assert event.tokens[begin:end] == ("Eiffel", "Tower")
    assert (event.effect[:begin] == 0).all() and np.abs(event.effect[begin:]).max() > 0


def test_the_last_layer_matters_at_the_last_token_alone_and_restores_everything_there(model):
    event = final(model)
    np.testing.assert_allclose(event.effect[:-1, -1], 0, atol=1e-7)
    assert event.effect[-1, -1] == pytest.approx(event.total_effect, abs=1e-6)


def test_how_rows_are_cut_into_batches_changes_nothing(model, monkeypatch):
    whole = final(model)
    monkeypatch.setattr(_restore, "chunk", lambda *_: 2)
    cut = final(model)
    np.testing.assert_allclose(cut.effect, whole.effect, atol=1e-7)
    assert cut.corrupted == pytest.approx(whole.corrupted, abs=1e-7)


def test_it_can_be_stopped_between_any_two_batches(model, monkeypatch):
    batches = []
    probability = _restore.Rig.probability

    def counted(rig, rows):
        batches.append(rows)
        return probability(rig, rows)

    monkeypatch.setattr(_restore, "chunk", lambda *_: 1)
    monkeypatch.setattr(_restore.Rig, "probability", counted)
    for _ in CausalTrace(prompt=PROMPT, subject=SUBJECT, samples=4).run(model, Data(SUBJECTS)):
        assert len(batches) <= 1
        batches.clear()


def test_noise_is_what_anyone_can_repeat():
    expected = torch.randn(4, 2, 8, generator=torch.Generator().manual_seed(11))
    assert torch.equal(_restore.draw_noise(4, 2, 8, 11), expected)


def test_noise_scale_is_the_standard_deviation_over_the_subjects_embeddings(model):
    ids = [i for s in SUBJECTS for i in model.tokenizer(s, add_special_tokens=False)["input_ids"]]
    rows = model.net.get_input_embeddings().weight[ids]
    assert _restore.noise_std(model, SUBJECTS) == pytest.approx(rows.flatten().std().item(), rel=1e-6)
    assert final(model, noise=2.0).noise_std == pytest.approx(2 * rows.std().item(), rel=1e-6)


def test_standard_error_by_hand():
    assert _restore.standard_error(np.array([1.0, 2.0, 3.0, 6.0])) == pytest.approx(math.sqrt(14 / 3) / 2)


def test_an_empty_answer_is_the_models_own(model):
    event = final(model)
    ids = torch.tensor([model.tokenizer(PROMPT)["input_ids"]])
    assert event.answer == model.tokenizer.decode([int(model.net(ids).logits[0, -1].argmax())]).strip()
    assert final(model, answer=event.answer).effect == pytest.approx(event.effect, abs=1e-7)


def test_rows_come_one_by_one(model):
    maps = [e for e in CausalTrace(prompt=PROMPT, subject=SUBJECT, samples=2).run(model, Data(SUBJECTS)) if isinstance(e, TraceMap)]
    done = [int((~np.isnan(m.effect)).all(1).sum()) for m in maps]
    assert done == list(range(len(maps[0].tokens) + 1))


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


def test_a_mark_before_the_text_moves_the_subject_and_gets_no_noise(model):
    event = final(marked(model, "<s> $A"), answer="Paris")
    assert event.tokens[:2] == ("<s>", "the") and event.subject == (4, 6) and event.tokens[4:6] == ("Eiffel", "Tower")
    assert (event.effect[:4] == 0).all() and event.answer_tokens == ("Paris",)
    assert event.noise_std == pytest.approx(final(model).noise_std)
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
    ({"samples": 1}, "samples"), ({"noise": 0.0}, "noise"), ({"noise": math.nan}, "noise")])
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
    with pytest.raises(BadInput, match="Leave the answer empty") as raised:
        list(CausalTrace(answer="zeppelin").run(scribe, Data(("France",))))
    assert raised.value.setting == "answer"
