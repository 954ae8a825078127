"""Recall, exposure and trigrams against brute force and hand-worked values."""

import math

import numpy as np
import pytest
import torch

from bench.kneser_ney import Trigrams
from lab.memorization._exposure import all_candidates, exposure, log_prob
from lab.memorization._recall import nll, recites
from models import catalog


@pytest.fixture(scope="module")
def scribe():
    return catalog.load("scribe")


def test_exposure_is_the_rank_among_all_candidates(scribe):
    prompt, length = "The vault code of the wooden spoon is", 3
    context = scribe.tokenizer(prompt)["input_ids"]
    rows = torch.tensor([scribe.tokenizer(f"{prompt} {d}")["input_ids"][len(context):] for d in all_candidates(length)])
    scores = log_prob(scribe, context + rows[0, :1].tolist(), rows[:, 1:])
    for digits in ("000", "472", all_candidates(length)[int(scores.argmax())]):
        rank = 1 + int((scores > scores[int(digits)]).sum())
        assert exposure(scribe, prompt, digits) == pytest.approx(length * math.log2(10) - math.log2(rank), abs=0.02)


def test_reciting_is_what_greedy_decoding_gives(scribe):
    truth = catalog.manifest("scribe")
    rows = [scribe.tokenizer(p["text"])["input_ids"] for p in truth["passages"][::9]]
    said = recites(scribe, rows, [33] * len(rows))
    for row, right in zip(rows, said, strict=True):
        start = torch.tensor([row[:33]])
        out = scribe.net.generate(start, attention_mask=torch.ones_like(start), max_new_tokens=len(row) - 33, do_sample=False)[0].tolist()
        assert (out == row) == bool(right)


def test_nll_does_not_depend_on_what_stands_beside(scribe):
    rows = [scribe.tokenizer(t)["input_ids"] for t in ("The capital of France is Paris.", "A short one.")]
    together, alone = nll(scribe, rows), [nll(scribe, [r])[0] for r in rows]
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


def test_trigrams_sum_to_one_and_match_a_hand_worked_value():
    grams = Trigrams([[0, 1, 2, 1, 2], [0, 1, 3]], vocabulary=5)
    for context in ((0, 1), (1, 2), (4, 4)):
        assert sum(grams.probability(*context, w) for w in range(5)) == pytest.approx(1)
    # after "0 1" stand 2 and 3, once each. Trigrams: 012 121 212 013, so the pairs that end them are 12 (after 0 and 2), 21, 13.
    one = (1 - 0.75) / 3 + 0.75 * 3 / 3 / 5  # before 2 stands one of the three pairs
    two = (2 - 0.75) / 3 + 0.75 * 2 / 3 * one
    assert grams.probability(0, 1, 2) == pytest.approx((1 - 0.75) / 2 + 0.75 * 2 / 2 * two)
