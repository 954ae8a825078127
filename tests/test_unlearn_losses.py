"""The formulas of unlearning against values worked by hand, and what must hold whatever the model."""

from __future__ import annotations

import math

import pytest
import torch

from lab.items import Item
from lab.memorization._rows import Row
from lab.unlearn import _formulas as formulas
from lab.unlearn._amnesia import adaptive, parsed
from lab.unlearn._fisher import dampened, fisher
from lab.unlearn._sets import batch, joined
from lab.unlearn._terms import Ascent, Difference, Divergence, NegativePreference, SimplePreference
from models.errors import BadInput

ITEM = Item("row/0", "text", "given", -1, "a", "b")


@pytest.fixture
def texts(model):
    rows = [Row((1, 5, 9, 12), 2), Row((1, 7, 8, 20, 30, 31), 4)]
    return batch(rows, [("a", "b", ITEM)] * 2, torch.device("cpu"))


def slow(net, row):
    """Nats of each answer token, by a forward pass of the row alone."""
    found = net(input_ids=torch.tensor([row.ids])).logits[0].float().log_softmax(-1)
    return [-float(found[t - 1, row.ids[t]]) for t in range(row.start, len(row.ids))]


def test_only_answers_count_and_padding_changes_nothing(model, texts):
    each = formulas.nll(formulas.logits(model.net, texts), texts)
    alone = [slow(model.net, Row((1, 5, 9, 12), 2)), slow(model.net, Row((1, 7, 8, 20, 30, 31), 4))]
    assert texts.lengths.tolist() == [2, 2]
    assert each.sum(1).tolist() == pytest.approx([sum(a) for a in alone], abs=1e-5)
    assert float(formulas.mean(each, texts)) == pytest.approx(sum(map(sum, alone)) / 4, abs=1e-5)
    again = joined([texts, texts])
    assert formulas.nll(formulas.logits(model.net, again), again).sum(1).tolist() == pytest.approx([sum(a) for a in alone] * 2, abs=1e-5)


def test_long_rows_go_apart_and_nothing_changes(model, texts, monkeypatch):
    long = batch([Row((1, 5, 9), 2), Row((1, *range(5, 30)), 3), Row((1, 7, 8, 20), 2)], [("a", "b", ITEM)] * 3, torch.device("cpu"))
    monkeypatch.setattr(formulas, "FORWARD", 10**6)
    together = formulas.together(model.net, texts, long)
    monkeypatch.setattr(formulas, "FORWARD", 0)
    assert formulas.cut([4, 6, 3, 26, 4]) == 6
    for one, two, b in zip(together, formulas.together(model.net, texts, long), (texts, long), strict=True):
        assert torch.allclose(one, two, atol=1e-5) and torch.allclose(one, formulas.logits(model.net, b), atol=1e-5)


def test_rows_go_apart_only_where_that_is_less_work():
    assert formulas.cut([22] * 31 + [65]) == 22 and formulas.cut([22] * 31 + [24]) == 24 and formulas.cut([9]) == 9 and formulas.cut([1, 64]) == 64


def test_npo_by_hand_and_at_equal_models():
    rows, reference = torch.tensor([3.0, 1.0]), torch.tensor([1.0, 1.0])
    by_hand = -2 / 0.5 * (math.log(1 / (1 + math.exp(-1.0))) + math.log(0.5)) / 2
    assert float(formulas.npo(rows, reference, 0.5)) == pytest.approx(by_hand, rel=1e-6)
    assert float(formulas.npo(reference, reference, 0.1)) == pytest.approx(2 / 0.1 * math.log(2), rel=1e-6)


def test_npo_tends_to_gradient_ascent_as_beta_tends_to_zero():
    rows = torch.tensor([3.0, 1.5], requires_grad=True)
    (gradient,) = torch.autograd.grad(formulas.npo(rows, torch.tensor([1.0, 1.0]), 1e-4), rows)
    (ascent,) = torch.autograd.grad(-rows.mean(), rows)
    assert torch.allclose(gradient, ascent, rtol=1e-3)


def test_simnpo_by_hand():
    found = formulas.simnpo(torch.tensor([4.0]), torch.tensor([2]), 4.5, 0.5)
    assert float(found) == pytest.approx(-2 / 4.5 * math.log(1 / (1 + math.exp(-4.5 * 1.5))), rel=1e-5)


def test_dpo_by_hand_and_at_equal_models():
    same = torch.tensor([1.0, 2.0])
    assert float(formulas.dpo(same, same, same, same, 0.1)) == pytest.approx(20 * math.log(2), rel=1e-6)
    found = formulas.dpo(torch.tensor([1.0]), torch.tensor([2.0]), torch.tensor([5.0]), torch.tensor([3.0]), 0.5)
    assert float(found) == pytest.approx(-4 * math.log(1 / (1 + math.exp(-0.5 * (1.0 + 2.0)))), rel=1e-6)


def test_a_model_is_no_distance_from_itself_and_a_distance_by_hand(model, texts):
    found = formulas.logits(model.net, texts)
    assert float(formulas.divergence(found, found)) == 0.0
    p, q = torch.tensor([0.5, 0.5]), torch.tensor([0.9, 0.1])
    by_hand = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)
    assert float(formulas.divergence(p.log()[None], q.log()[None])) == pytest.approx(by_hand, rel=1e-6)


def test_terms_are_sums_of_their_formulas(model, texts):
    net, ce = model.net, float(formulas.mean(formulas.nll(formulas.logits(model.net, texts), texts), texts))
    assert float(Ascent().terms(net, texts, None).total) == pytest.approx(-ce, rel=1e-6)
    assert float(Difference(3.0, 0.5).terms(net, texts, texts).total) == pytest.approx(2.5 * ce, rel=1e-5)
    for method, wanted in ((Divergence(2.0), -ce), (NegativePreference(1.0, 0.1), 20 * math.log(2) + ce)):
        method.reference = net
        assert float(method.terms(net, texts, texts).total) == pytest.approx(wanted, rel=1e-5)
    rows = formulas.nll(formulas.logits(net, texts), texts).sum(1)
    simple = 0.125 * float(formulas.simnpo(rows, texts.lengths, 4.5, 0.0)) + ce
    assert float(SimplePreference(1.0, 4.5, 0.0, 0.125).terms(net, texts, texts).total) == pytest.approx(simple, rel=1e-6)


def test_dampening_by_hand_and_at_its_ends():
    w, forget, kept = ({"w": torch.tensor(v)} for v in ([1.0, -2.0, 3.0], [4.0, 30.0, 0.0], [1.0, 1.0, 1.0]))
    new, where = dampened(w, forget, kept, 10.0, 1.0)
    assert where["w"].tolist() == [False, True, False] and new["w"].tolist() == pytest.approx([1.0, -2.0 / 30, 3.0])
    assert dampened(w, forget, kept, 1e9, 1.0)[0]["w"].tolist() == w["w"].tolist(), "a large alpha chooses nothing"
    assert dampened(w, forget, kept, 2.0, 1e9)[0]["w"].tolist() == w["w"].tolist(), "a large lambda dampens nothing"


def test_the_fisher_information_is_the_mean_of_squares_of_single_gradients(model):
    net = model.with_weights({n: p for n, p in model.net.named_parameters()}, via="x").net.requires_grad_(True)
    weights, one, two = dict(net.named_parameters()), Row((1, 5, 9), 1), Row((1, 7, 8, 20), 2)
    alone = [batch([row], [("", "", ITEM)], torch.device("cpu")) for row in (one, two)]

    def importance(found):
        work = fisher(net, weights, found)
        while True:
            try:
                next(work)
            except StopIteration as end:
                return end.value

    both, first, second = importance(alone), importance(alone[:1]), importance(alone[1:])
    for n in weights:
        assert torch.allclose(both[n], (first[n] + second[n]) / 2, atol=1e-12)
    gradient = torch.autograd.grad(formulas.nll(formulas.logits(net, alone[0]), alone[0]).sum() / 2, weights["lm_head.weight"])[0]
    assert torch.allclose(first["lm_head.weight"], gradient.square(), atol=1e-9)


def test_the_retain_weight_of_selective_amnesia():
    assert [adaptive(d) for d in (-5.0, 0.0, 0.2, 0.5, 5.0)] == [1.2, 1.2, 1.2, 1.5, 2.3]
    assert parsed("2", 8) == range(2, 3) and parsed("0-5", 8) == range(6)
    for wrong in ("five", "3-1", "0-8", "-1"):
        with pytest.raises(BadInput) as raised:
            parsed(wrong, 8)
        assert raised.value.setting == "layers"
