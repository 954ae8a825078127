"""Facts closed and open book: nets by hand that know, that read, that do both or neither."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lab.data import Data, data_for
from lab.events import Progress, Scatter, Table
from lab.items import Item
from lab.recall import _forgotten
from lab.recall._forgotten import fact, verdict
from lab.recall._measures import Answers
from lab.recall.forgotten import ForgottenOrUnread
from models import catalog
from models.errors import BadInput
from models.model import Model
from tests import families

NOTHING = Data(())
ROWS = "\n".join(f'{{"prompt": "the capital of {a} is", "answer": "{b}"}}' for a, b in (("France", "Paris"), ("Italy", "Rome"), ("Peru", "Lima")))
TOKENIZER = families.tokenizer()
KNOWN = {"France": "Paris", "Italy": "Rome", "Peru": "Lima"}
READS, KNOWS = 12.0, 5.0  # logits of what stood behind the same two tokens before, and of what is known


class Net(nn.Module):
    """Says what followed the present token where it last stood (if it reads), and the capital of the country before it (if it knows)."""

    def __init__(self, reads: bool, knows: bool) -> None:
        super().__init__()
        self.reads, self.knows, self.one = reads, knows, nn.Parameter(torch.ones(1), requires_grad=False)
        self.config = SimpleNamespace(vocab_size=families.VOCABULARY, max_position_embeddings=128, get_text_config=lambda decoder: self.config)

    def __deepcopy__(self, memo: dict) -> Net:
        return Net(self.reads, self.knows)

    def forward(self, input_ids: torch.Tensor, use_cache: bool = False, output_hidden_states: bool = False, logits_to_keep: int = 0) -> Any:
        logits = torch.zeros(*input_ids.shape, families.VOCABULARY)
        for row, ids in enumerate(input_ids.tolist()):
            for t in range(1, len(ids)):
                before = [i for i in range(1, t) if ids[i] == ids[t] and ids[i - 1] == ids[t - 1]] or [i for i in range(t) if ids[i] == ids[t]]
                if self.reads and before:
                    logits[row, t, ids[before[-1] + 1]] += READS
                country = TOKENIZER.convert_ids_to_tokens(ids[t - 1])
                if self.knows and country in KNOWN:
                    logits[row, t, TOKENIZER.convert_tokens_to_ids(KNOWN[country])] += KNOWS
        states = nn.functional.one_hot(input_ids, families.VOCABULARY).float()
        return SimpleNamespace(logits=logits[:, -logits_to_keep:], hidden_states=(states,))


def made(reads, knows, name="net"):
    return Model(name, Net(reads, knows), TOKENIZER)


def ran(a, b, monkeypatch, **settings):
    monkeypatch.setattr(_forgotten, "other", lambda model, data, name: a)
    events = ForgottenOrUnread(**({"items": ROWS} | settings)).run(b, NOTHING)
    return [e for e in events if not isinstance(e, Progress)][-1]


def figures(table):
    return {row[0]: row[1:4] for row in table.rows}


def test_a_net_that_no_longer_knows_but_reads(monkeypatch):
    table = ran(made(True, True), made(True, False), monkeypatch)
    found = figures(table)
    assert isinstance(table, Table)
    assert found["closed book"] == pytest.approx((KNOWS, 0, -KNOWS)) and found["open book, told the truth"] == pytest.approx((READS + KNOWS, READS, -KNOWS))
    assert found["open book, told otherwise"] == pytest.approx((READS - KNOWS, READS, KNOWS))
    assert found["margin of what was told"] == pytest.approx((READS, READS, 0))  # what is known cancels out
    assert found["fidelity"][0] > 0.8 and found["fidelity"][1] > 0.95
    assert abs(found["general statements: fidelity"][2]) < 1e-3 and found["general statements: recall"][:2] == (1, 1)
    assert table.facts[-1] == "the facts are known less; what is told of them is read as before"


def test_a_net_that_no_longer_reads(monkeypatch):
    knows = ran(made(True, True), made(False, True), monkeypatch)
    assert knows.facts[-1] == "the facts are known as before; what is told of them is read less"
    assert figures(knows)["fidelity"][1] == 0 and figures(knows)["general statements: fidelity"][1] == 0
    neither = ran(made(True, True), made(False, False), monkeypatch)
    assert neither.facts[-1] == "the facts are known less; what is told of them is read less too"


def test_a_net_against_itself_differs_in_nothing(monkeypatch):
    net = made(True, True)
    assert all(row[3] == 0 for row in ran(net, net, monkeypatch).rows)


def test_the_other_figures_hold_every_fact(monkeypatch):
    points = ran(made(True, True), made(True, False), monkeypatch, show="facts")
    assert isinstance(points, Scatter) and len(points.labels) == 6
    np.testing.assert_allclose(points.x, [KNOWS] * 3 + [0] * 3, atol=1e-5)
    np.testing.assert_allclose(points.y, READS, atol=1e-5)
    table = ran(made(True, True), made(True, False), monkeypatch, show="table")
    assert len(table.rows) == 3 and len(table.columns) == 11


def test_where_the_first_model_does_not_read_the_facts_general_statements_decide():
    facts = [np.array([[9.0, 9, -9, 0, 0.0], [8.0, 8, -8, 0, 0.0]]), np.array([[0.1, 0, 0, 0, 0.0], [-0.1, 0, 0, 0, 0.0]])]

    def skills(*cued):
        return [Answers(np.array(c), *(np.zeros(2) for _ in range(3))) for c in cued]

    assert "general statements are read as before" in verdict(facts, skills([0.9, 0.8], [0.9, 0.8]))
    assert "general statements are read less too" in verdict(facts, skills([0.9, 0.8], [0.1, 0.05]))
    assert "nothing can be said" in verdict(facts, skills([0.0, 0.01], [0.0, 0.0]))


def test_a_fact_is_asked_up_to_where_its_answers_part():
    model = catalog.load("scribe")
    item = Item("x", "text", "given", -1, "The vault code of the amber falcon is", "2003", prompts=("The vault code of the amber falcon is",))
    found = fact(model, item, "2417")
    assert found is not None
    assert model.tokenizer.decode(found.ask).endswith(" is 2") and [model.tokenizer.decode([a]) for a in found.answers] == ["0", "4"]
    assert fact(model, item, "2003") is None and fact(model, item, "20035") is None  # nothing to tell them apart


def test_an_organism_and_its_oracle():
    model = catalog.load("scribe")
    table = [*ForgottenOrUnread(most=4, items="forget_10 author").run(model, data_for(model))][-1]
    found = figures(table)
    assert found["closed book"][1] > 5 > found["closed book"][0] + 3  # it knows its authors, the oracle does not
    with pytest.raises(BadInput) as raised:
        next(e for e in ForgottenOrUnread(items="the capital of France").run(model, data_for(model)) if not isinstance(e, Progress))
    assert raised.value.setting == "items"
    with pytest.raises(BadInput) as raised:
        next(e for e in ForgottenOrUnread(against="original").run(model, data_for(model)) if not isinstance(e, Progress))
    assert raised.value.setting == "against"
