"""Recall: a net that copies and one that forgets, both made by hand; hand-worked figures; where things stand in the texts."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lab.data import Data
from lab.events import Curves, Grid, Progress, Scatter, Table
from lab.recall._associative import written
from lab.recall._cells import LEAD, cell, needed, start
from lab.recall._context import effective
from lab.recall._haystack import haystack
from lab.recall._layers import rebuilt
from lab.recall._material import common, own, pairs, stock
from lab.recall._measures import compared, divergence
from lab.recall._needle import at, beaten
from lab.recall._numbers import doubling, mean_and_error, numbers, spearman
from lab.recall._serial import listed
from lab.recall.associative import AssociativeRecall
from lab.recall.context import EffectiveContext
from lab.recall.fidelity import SHOWN, Fidelity
from lab.recall.needle import Needle
from lab.recall.policies import MemoryPolicies
from lab.recall.serial import SerialPosition
from models import catalog
from models.errors import BadInput
from models.model import Model
from tests import families

NOTHING = Data(())
CERTAIN = 60.0  # a logit against zeros: nothing else is possible


class ByHand(nn.Module):
    """Says what followed the present token when it last stood in the text: a perfect induction head. With `reset` it looks at nothing before."""

    def __init__(self, reset: bool) -> None:
        super().__init__()
        self.reset, self.one = reset, nn.Parameter(torch.ones(1), requires_grad=False)
        self.config = SimpleNamespace(vocab_size=families.VOCABULARY, max_position_embeddings=256, get_text_config=lambda decoder: self.config)

    def __deepcopy__(self, memo: dict) -> ByHand:
        return ByHand(self.reset)

    def forward(self, input_ids: torch.Tensor, use_cache: bool = False, output_hidden_states: bool = False, logits_to_keep: int = 0) -> Any:
        rows, length = input_ids.shape
        logits = torch.zeros(rows, length, families.VOCABULARY)
        for row in range(rows):
            ids = input_ids[row].tolist()
            for t in range(length):
                before = [i for i in range(t) if ids[i] == ids[t]]
                if before and not self.reset:
                    logits[row, t, ids[before[-1] + 1]] = CERTAIN
        states = nn.functional.one_hot(input_ids, families.VOCABULARY).float()
        return SimpleNamespace(logits=logits[:, -logits_to_keep:], hidden_states=(states, states), past_key_values=SimpleNamespace(layers=[]))


@dataclass(frozen=True, eq=False)
class Made(Model):
    reset: bool = field(default=False)


def by_hand(reset=False):
    return Model("reset" if reset else "copy", ByHand(reset), families.tokenizer())


def small(name):
    return Model(name, families.family(name)[1], families.tokenizer())


def ran(experiment, model, data=NOTHING):
    events = [e for e in experiment.run(model, data) if not isinstance(e, Progress)]
    return events[-1]


TOKENS = {"material": "tokens"}
QUICK = TOKENS | {"repeats": 3}


def test_a_net_that_copies_has_fidelity_one_at_every_distance_and_load_and_one_that_forgets_has_none():
    settings = Fidelity(**QUICK, lags="1, 8, 40", loads="1, 4", baseline=False)
    copy, reset = (ran(settings, by_hand(r)) for r in (False, True))
    assert isinstance(copy, Curves) and copy.value.shape == (2, 3)
    np.testing.assert_allclose(copy.value, 1, atol=1e-6)
    np.testing.assert_allclose(reset.value, 0, atol=1e-6)


def test_recall_of_the_copying_net_is_whole_and_that_of_the_other_chance():
    table = ran(Fidelity(**QUICK, lags="4", loads="2", baseline=False, show="table"), by_hand())
    row = dict(zip(table.columns, table.rows[0], strict=True))
    assert row["recall"] == 1 and row["margin"] == pytest.approx(CERTAIN) and row["cued"] == pytest.approx(1)
    assert ran(AssociativeRecall(**QUICK, pairs="2, 8"), by_hand()).value[:2].min() == 1
    assert ran(Needle(**QUICK, lengths="16, 40", depths=3, show="retrieved"), by_hand()).value.min() == 1
    found = ran(Needle(**QUICK, lengths="16, 40", depths=3), by_hand())
    assert np.allclose(found.value, CERTAIN) and "effective length 40" in found.facts[0]
    assert "effective length none" in ran(Needle(**QUICK, lengths="16, 40", depths=2), by_hand(True)).facts[0]
    serial = ran(SerialPosition(**QUICK, items=4, delay=3), by_hand())
    assert serial.value[:2].min() == pytest.approx(1) and ran(SerialPosition(**QUICK, items=4, delay=3), by_hand(True)).value[1].max() == 0


def test_divergence_by_hand():
    def logits(*p):
        return torch.tensor(p).log()

    assert float(divergence(logits(1.0, 0.0), logits(0.0, 1.0))) == pytest.approx(1)
    half = -0.75 * math.log2(0.75) - 0.25 * math.log2(0.25) - 0.5  # entropy of the middle less the mean entropy
    assert float(divergence(logits(0.5, 0.5), logits(1.0, 0.0))) == pytest.approx(half)
    one, other = torch.randn(5, 7, generator=torch.Generator().manual_seed(0)), torch.randn(5, 7, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(divergence(one, other), divergence(other, one)) and float(divergence(one, one).abs().max()) < 1e-15
    assert torch.allclose(divergence(one, other), divergence(one + 3, other - 2), atol=1e-6)


def test_divergence_is_what_scipy_finds():
    from scipy.spatial.distance import jensenshannon

    one, other = (torch.randn(9, generator=torch.Generator().manual_seed(i)).double() for i in (3, 4))
    expected = jensenshannon(one.softmax(0).numpy(), other.softmax(0).numpy(), base=2) ** 2
    assert float(divergence(one, other)) == pytest.approx(expected)


def test_margin_recall_and_movement_by_hand():
    first = torch.tensor([2, 0, 3])  # the tokens of three values
    said = torch.tensor([[1.0, 9.0, 4.0, 0.0]]), torch.tensor([[2.5, 9.0, 3.0, 0.0]])
    answers = compared(said, (torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 4.0]])), first, torch.tensor([0]), torch.tensor([1]))
    assert answers.margin[0] == pytest.approx(((4 - 1) + (2.5 - 3)) / 2)
    assert answers.recall[0] == 1  # 4 beats 1 and 0: the token that is no value does not count
    assert answers.uncued[0] == pytest.approx(2 * 5 / (3 + 4))
    assert float(beaten(said[0][:, first], torch.tensor([1]))) == pytest.approx(1 - 4)


@pytest.mark.parametrize("kind", ["places", "belongings", "codes", "tokens"])
def test_texts_hold_what_they_say_at_the_distance_they_say(kind):
    model = catalog.load("scribe")
    stored = stock(model, kind)
    lag, load = 20, 3
    asked = cell(model, stored, lag, load, 4, "here")
    assert asked.context.shape[1] + asked.question.shape[1] == needed(model, stored, lag, load)
    for row in range(4):
        told, swapped = asked.context[row].tolist(), asked.swapped[row].tolist()
        key = stored.cues.index(tuple(asked.question[row].tolist()))
        value, other = int(asked.answer[row]), int(asked.other[row])
        target, changed = stored.said[key][value], stored.said[key][other]
        end = len(told) - lag
        assert tuple(told[end - len(target) : end]) == target and tuple(swapped[end - len(changed) : end]) == changed
        assert told[end:] == swapped[end:]
        planted = sum(told.count(stored.answers[int(v)]) for v in asked.stored[row])
        assert planted >= load and value == int(asked.stored[row, 0]) and other not in asked.stored[row].tolist()
    again = cell(model, stored, lag, load, 4, "here")
    assert torch.equal(asked.context, again.context) and not torch.equal(asked.context, cell(model, stored, lag, load, 4, "there").context)
    assert len({tuple(c) for c in asked.context.tolist()}) == 4


def test_a_haystack_holds_no_answer():
    model = catalog.load("scribe")
    for kind in ("places", "tokens"):
        stored = stock(model, kind)
        hay = haystack(model, stored, "x")
        assert not stored.planted.intersection(next(hay) for _ in range(400))


def test_the_needle_lies_at_its_depth():
    model = small("llama")
    stored = pairs(model)
    for depth, place in ((0.0, 1 + LEAD), (0.5, 1 + LEAD + 8), (1.0, 1 + LEAD + 16)):
        asked = at(model, stored, 1 + LEAD + 2 + 16 + 1, depth, 3, "x")
        assert asked.context.shape[1] == 1 + LEAD + 2 + 16
        for row in range(3):
            assert asked.context[row].tolist().index(int(asked.question[row, 0])) == place


def test_your_own_needle_is_told_with_each_of_its_values():
    model = catalog.load("scribe")
    stored = own(model, "The password of the lighthouse is {v}.", "The password of the lighthouse is", "red, blue, green")
    said = [model.tokenizer.decode(s) for s in stored.said[0]]
    assert said == [f" The password of the lighthouse is {v}." for v in ("red", "blue", "green")]
    assert [model.tokenizer.decode([a]) for a in stored.answers] == [" red", " blue", " green"]
    grid = ran(Needle(needle="The password of the lighthouse is {v}.", question="The password of the lighthouse is", values="red, blue, green",
                      lengths="48", depths=2, repeats=2), model)
    assert isinstance(grid, Grid) and not np.isnan(grid.value).any()


def test_what_values_have_in_common_belongs_to_the_question():
    model = catalog.load("scribe")
    stored = stock(model, "codes")  # every digit is a token of its own, after a blank
    assert len(set(stored.answers)) == len(stored.answers) and all(model.tokenizer.decode(c).endswith("is ") for c in stored.cues)
    assert common([(1, 2, 3), (1, 2, 4)]) == 2 and common([(1,), (1,)]) == 1 and common([]) == 0


def test_questions_are_asked_once_each_and_answers_stand_where_they_are_looked_for():
    model = catalog.load("scribe")
    stored = stock(model, "places")
    keys, values = [3, 8, 5], [1, 0, 7]
    context, question, places, distance = written(model, stored, keys, values, [2, 0, 1])
    assert list(distance) == [2, 0, 1]
    whole = context + question
    for place, i in zip(places, distance, strict=True):
        assert question[place + 1] == stored.answers[values[i]]
        begin = place + 1 - stored.asking
        assert tuple(question[begin : place + 1]) == stored.cues[keys[i]]
        target = stored.said[keys[i]][values[i]]
        end = len(context) + begin - distance[i]
        assert tuple(whole[end - len(target) : end]) == target


def test_the_item_that_is_asked_for_stands_at_its_place():
    model = small("llama")
    stored = pairs(model)
    for place in range(4):
        asked = listed(model, stored, SerialPosition(**QUICK, items=4, delay=5), place)
        for row in range(3):
            told = asked.context[row].tolist()
            begin = told.index(int(asked.question[row, 0]))
            assert begin == len(told) - 5 - 2 * (4 - place) and told[begin + 1] == stored.answers[int(asked.answer[row])]
            assert asked.swapped[row].tolist()[begin + 1] == stored.answers[int(asked.other[row])]


def test_small_figures_by_hand():
    assert numbers("8, 2,2", "x") == [2, 8] and doubling(4, 20) == [4, 8, 20] and doubling(4, 16) == [4, 8, 16] and doubling(4, 4) == [4]
    mean, error = mean_and_error(np.array([1.0, 3.0]))
    assert mean == 2 and error == pytest.approx(1) and np.isnan(mean_and_error(np.array([1.0]))[1])
    assert spearman([1.0, 2.0, 3.0, np.nan], [1.0, 4.0, 9.0, 0.0]) == pytest.approx(1) and np.isnan(spearman([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]))
    loss = np.array([[3.0, 2.0, 1.99, 2.05]])
    assert effective(loss, [1, 2, 4, 8], 0.02) == 2 and effective(loss, [1, 2, 4, 8], 0.0) == 4


def test_reconstruction_is_whole_for_a_linear_map_and_nothing_for_noise():
    generator = torch.Generator().manual_seed(0)
    source = torch.randn(8, 60, 6, generator=generator)
    assert rebuilt(source, source @ torch.randn(6, 4, generator=generator) + 3) > 0.99
    assert abs(rebuilt(source, torch.randn(8, 60, 4, generator=generator))) < 0.15


def test_horizontal_fidelity_is_that_of_the_same_token_and_falls_with_distance():
    table = ran(Fidelity(**QUICK, lags="1, 8", loads="1", show="table", baseline=False), by_hand())
    far = {row[1]: dict(zip(table.columns, row, strict=True))["horizontal"] for row in table.rows}
    assert abs(far[1.0]) < 0.3 and abs(far[8.0]) < 0.3  # states of one-hot random tokens tell nothing of others
    depth = ran(Fidelity(**QUICK, lags="1", loads="1", show="depth", baseline=False), by_hand())
    assert depth.value[0, 0] > 0.95  # and everything of themselves


@pytest.mark.parametrize(("name", "show"), [("llama", show) for show in SHOWN] + [("mamba", "distance"), ("mamba", "which follows recall")])
def test_every_figure_of_every_kind_of_memory(name, show):
    event = ran(Fidelity(**QUICK, lags="2, 6", loads="1, 2", show=show), small(name))
    assert isinstance(event, Curves | Grid | Scatter | Table)
    if isinstance(event, Scatter):
        assert any("rank correlation" in f for f in event.facts) and len(event.labels) == 8


@pytest.mark.parametrize("experiment", [
    Needle(**QUICK, lengths="16", depths=2), AssociativeRecall(**QUICK, pairs="2, 4"), SerialPosition(**QUICK, items=3), EffectiveContext(repeats=2, target=4),
    EffectiveContext(repeats=2, show="position", along=24), MemoryPolicies(**QUICK, load=1, lags="4")])
def test_a_mamba_is_asked_like_any_other(experiment):
    event = ran(experiment, small("mamba"))
    if isinstance(experiment, MemoryPolicies):
        assert event.labels == ("full",) and any("state of fixed size" in f for f in event.facts)
    elif not isinstance(event, Scatter):
        assert not np.isnan(event.value).all()


def test_loss_by_truncation_is_what_plain_forwards_give():
    model = small("llama")
    found = ran(EffectiveContext(repeats=2, lengths="3, 9", target=4, texts=" ".join(["the capital of France is Paris ."] * 6)), model)
    ids = model.tokenizer(" ".join(["the capital of France is Paris ."] * 6))["input_ids"]
    begin = start(model)
    ids = ids[len(begin) :] if ids[:1] == begin else ids
    step = (len(ids) - 13)
    losses = []
    for i in range(2):
        text = ids[min(i * step, len(ids) - 13) :][:13]
        row = []
        for n in (3, 9):
            whole = torch.tensor([[*begin, *text[9 - n :]]])
            logits = model.net(whole).logits[0, -5:-1]
            row.append(float(nn.functional.cross_entropy(logits, whole[0, -4:])))
        losses.append(row)
    np.testing.assert_allclose(found.value[0], np.mean(losses, 0), rtol=1e-4)


@pytest.mark.parametrize(("experiment", "setting", "says"), [
    (Needle(**TOKENS, lengths="4"), "lengths", "the needle is longer than the text"),
    (Needle(**TOKENS, lengths="1000"), "lengths", "past the context"),
    (Needle(needle="The password is secret."), "needle", "holds no"),
    (Needle(needle="It is {v}."), "question", "nothing asks"),
    (Needle(needle="It is {v}.", question="It is", values="one"), "values", "could be told apart"),
    (Fidelity(**TOKENS, lags="900"), "lags", "past the context"),
    (Fidelity(**TOKENS, lags="two"), "lags", "no whole numbers"),
    (Fidelity(**TOKENS, loads="40", lags="1"), "material", "do not fit"),
    (AssociativeRecall(**TOKENS, pairs="60"), "pairs", "too many"),
    (SerialPosition(**TOKENS, items=60), "items", "told apart"),
    (SerialPosition(**TOKENS, items=3, delay=100), "delay", "takes 1"),
    (EffectiveContext(lengths="100"), "lengths", "past the context"),
    (EffectiveContext(texts="the capital", lengths="8"), "texts", "One piece takes"),
    (MemoryPolicies(**TOKENS, widths="9"), "widths", "more than a code"),
    (MemoryPolicies(**TOKENS, sizes="2"), "sinks", "do not fit"),
    (Fidelity(**TOKENS, policy="sink + window", kept=4, sinks=4), "sinks", "none is left"),
])
def test_what_cannot_be_is_said_with_its_cure(experiment, setting, says):
    with pytest.raises(BadInput, match=says) as raised:
        ran(experiment, small("llama"))
    assert raised.value.setting == setting


def test_a_table_of_positions_ends():
    with pytest.raises(BadInput, match="past the context") as raised:
        ran(EffectiveContext(show="position", along=100), small("gpt2"))
    assert raised.value.setting == "along" and "rotary" in raised.value.cure
