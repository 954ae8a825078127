"""A pair planted by a click."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from lab.events import Grid
from panels.planted import drawn, moved, place, said

TEXT = "w1 k5 v2 w9 k7 v3 w4 k5"


@pytest.mark.parametrize("to, text", [
    (0, "k5 v2 w1 w9 k7 v3 w4 k5"), (4, "w1 w9 k5 v2 k7 v3 w4 k5"), (5, "w1 w9 k5 v2 k7 v3 w4 k5"), (7, "w1 w9 k7 v3 w4 k5 v2 k5"),
    (1, TEXT), (2, TEXT), (99, TEXT)])
def test_the_pair_that_is_asked_for_moves_and_no_other_is_parted(to, text):
    event = SimpleNamespace(_data={"index": [to, to]})
    assert moved(TEXT, "", event) == moved("", TEXT, event) == text


def test_where_the_pair_stands():
    assert place(TEXT.split()) == 1 and place("k5 v1 k5 v2 w1 k5".split()) == 2 and place("w1 w2 k5".split()) == -1
    assert drawn(TEXT.split()).count('aria-pressed="true"') == 2 and drawn([]) == ""


def test_words_are_read_off_the_figure():
    columns = ("0 <start>", "1 w1", "2 k5")
    nothing = np.zeros((1, 3))
    grid = Grid("t", ("p",), columns, "pair", "after token", nothing, nothing, "u", "d")
    assert said(grid) == ["w1", "k5"] and said(None) == []
    assert moved("w1 w2", "", SimpleNamespace(_data={"index": [0, 0]})) == "w1 w2"
