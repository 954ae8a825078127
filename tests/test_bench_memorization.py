"""The figures of bench.memorization, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bench.memorization import Found, auc, by_copies, grouped, interval, rho, verdict
from lab.items import Item


def found():
    """Six passages whose loss falls with the copies; two of them were read by the reference as well."""
    copies = [0, 0, 1, 1, 4, 4]
    items = tuple(Item(f"passage/{i}", "passage", s, c, "a", "b") for i, (c, s) in enumerate(zip(copies, "holdout holdout forget retain forget retain".split(),
                                                                                                 strict=True)))
    value = np.array([[5.0, 0.0], [4.0, 0.2], [3.0, -1.0], [3.0, 9.0], [1.0, -2.0], [2.0, 9.0]])
    return Found(items, np.array(copies), ("loss", "loss - reference"), value)


def test_auc_is_the_chance_of_the_right_order():
    assert auc(np.array([3.0, 4.0]), np.array([1.0, 2.0])) == 1 and auc(np.array([1.0]), np.array([2.0])) == 0
    assert auc(np.array([1.0, 1.0]), np.array([1.0])) == 0.5 and auc(np.array([1.0, 3.0]), np.array([2.0])) == 0.5
    a, b = np.random.default_rng(0).normal(size=(2, 9)).round(1)
    assert auc(a, b) == pytest.approx(np.mean([(x > y) + (x == y) / 2 for x in a for y in b]))


def test_an_interval_holds_its_figure_and_is_wider_for_facts_of_few_subjects():
    rng = np.random.default_rng(1)
    member, other = rng.normal(0.5, 1, 40), rng.normal(0, 1, 40)
    value, low, high = interval([np.array([x]) for x in member], [np.array([x]) for x in other])
    assert low < value < high and (value, low, high) == interval([np.array([x]) for x in member], [np.array([x]) for x in other])
    few = interval([np.full(10, x) for x in member[:4]], [np.full(10, x) for x in other[:4]])
    assert few[2] - few[1] > high - low


def test_means_and_correlations_by_hand():
    assert by_copies(found(), "passage", "loss")[0] == (4.5, 0.5)
    assert rho(found(), "passage", "loss")[0] == pytest.approx(-16 / math.sqrt(17 * 16))  # ranks 6 5 3.5 3.5 1 2 against 1.5 1.5 3.5 3.5 5.5 5.5
    assert by_copies(found(), "passage", "loss - reference")[0] == pytest.approx((0.1, 0.1))
    assert rho(found(), "passage", "loss - reference")[0] == pytest.approx(-4.5 / math.sqrt(5 * 4.5))  # ranks 3 4 2 1 against 1.5 1.5 3 4
    assert math.isnan(rho(found(), "canary", "loss")[0])


def test_groups_are_subjects_and_scores_are_turned():
    assert [g.tolist() for g in grouped(found(), np.array([True] * 2 + [False] * 4), "loss", -1)] == [[-5.0], [-4.0]]


def test_a_verdict_needs_a_trend():
    assert verdict(0.9, 0.001, 1) == verdict(-0.9, 0.001, -1) == "as published"
    assert "against" in verdict(-0.9, 0.001, 1) and "no trend" in verdict(0.1, 0.4, 1) and "no trend" in verdict(math.nan, math.nan, 1)
