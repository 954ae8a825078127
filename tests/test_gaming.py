"""How a score can be gamed: the sentences come from the figures, and gradient ascent is scored as it goes."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lab.data import data_for
from lab.experiment import find
from lab.ruler._gamed import Point, Ruler, told
from models import catalog

RULER = Ruler(auc=(0.48, 0.52), auc_error=0.05, apart=1.6)
START = Point(0, 0.0, 0.99, 1.0, 1.0, 4.6, 0.1)


def point(step, p=0.0, auc=0.99, retain=1.0, kl_forget=4.0, kl_retain=0.1):
    return Point(step, p, auc, 0.5, retain, kl_forget, kl_retain)


def test_a_score_is_fooled_where_it_passes_while_what_was_to_be_kept_is_lost():
    facts = told([START, point(5, p=0.2, retain=0.9), point(10, p=0.3, auc=0.6, retain=0.2, kl_forget=8.0, kl_retain=2.0)], RULER)
    words = " ".join(facts)
    assert "forget quality is fooled: at step 10 it passes with p = 0.30 while retain accuracy is 0.20" in words
    assert "membership AUC is fooled: at step 10 it is 0.60" in words  # .52 + 1.96 * .05 = .618
    assert "KL to the oracles catches it: at step 10 it is 8.00" in words and "oracles are 1.60 from each other" in words


def test_it_says_so_where_nothing_is_fooled():
    words = " ".join(told([START, point(10, p=0.01, auc=0.9, retain=0.2, kl_forget=8.0)], RULER))
    assert "no score is fooled here" in words and "forget quality is not fooled" in words and "membership AUC is not fooled" in words
    assert "not lost within these steps" in " ".join(told([START, point(10, p=0.9, auc=0.5)], RULER))


def test_an_auc_beyond_what_the_number_of_items_leaves_open_is_told_apart():
    assert RULER.looks_alike(0.617) and not RULER.looks_alike(0.62)
    assert not Ruler((), math.nan, math.nan).looks_alike(0.5)


def test_it_says_where_the_kl_misses_it():
    words = " ".join(told([START, point(10, p=0.3, retain=0.2, kl_forget=2.0, kl_retain=0.15)], RULER))
    assert "KL to the oracles does not catch it" in words


def test_without_an_oracle_it_says_what_cannot_be_said():
    facts = told([START, point(10, retain=0.2)], Ruler((), math.nan, math.nan, "every oracle read some of these"))
    assert len(facts) == 2 and "every oracle read some of these" in facts[1]


@pytest.fixture(scope="module")
def curves():
    scribe = catalog.load("scribe", "cpu")
    data = data_for(scribe)
    return list(find("ruler.gaming")(steps=4, every=2, most=4).run(scribe, data))[-1]


def test_gradient_ascent_is_scored_from_the_untouched_model_on(curves):
    assert curves.x.tolist() == [0, 2, 4]
    at = dict(zip(curves.lines, curves.value, strict=True))
    assert at["KL to the oracles, forget"][0] == 1 and at["forget accuracy"][0] == 1
    assert np.isfinite(curves.value).all()
    assert curves.facts[0].startswith("retain accuracy 1.00 before")
