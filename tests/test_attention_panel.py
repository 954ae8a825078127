"""The Attention page: marks made by clicks, and cells in words."""

from __future__ import annotations

import numpy as np
import pytest

from lab.attention._segments import MARKED, Source, unmarked
from lab.events import AttentionMap
from panels.pair import by_tokens, explained
from panels.segments import read, toggled, written

TEXT = "The capital of France is"


@pytest.mark.parametrize(("before", "name", "word", "after"), [
    (TEXT, "A", "France", "The capital of [[A: France]] is"),
    (TEXT, "A", " France", "The capital of [[A: France]] is"),  # a token may begin with its blank
    ("The [[A: capital]] of France is", "A", "France", "The [[A: capital of France]] is"),
    ("The [[A: capital of France]] is", "A", "of", TEXT),
    ("The [[A: capital]] of France is", "B", "is", "The [[A: capital]] of France [[B: is]]"),
    ("[[A: The]] capital [[B: of]] France is", "A", "France", "[[A: The capital of France]] is"),  # a segment is one piece: it takes what lies between
    (TEXT, "x]:[", "is", "The capital of France [[x: is]]"),
])
def test_a_click_marks_extends_or_takes_away(before, name, word, after):
    bare, _ = read(before)
    begin = bare.index(word)
    assert toggled(before, name, begin, begin + len(word)) == after


def test_what_is_written_is_what_the_experiment_reads():
    text = written(TEXT, [("subject", 15, 21), ("end", 22, 24)])
    bare, names = unmarked(MARKED, Source("text", text))
    assert bare == TEXT == read(text)[0]
    assert [names[i] for i in (0, 15, 20, 21, 22)] == ["rest", "subject", "subject", "rest", "end"]


@pytest.fixture
def event():
    weight = np.array([[1.0, 0, 0], [0.6, 0.4, 0], [0.2, 0.3, 0.5]])
    per = np.array([[0.5, 0.25]])
    return AttentionMap("Map", ("The", " <b>", " is"), ((0, 1), (1, 2), (2, 3)), weight, np.zeros((0, 0)), (0, 0), 3, 1, "raw", False, "share", "",
                        ("text",), (0, 0, 0), (3,), per, per)


def test_a_cell_in_words(event):
    told = explained(event, 0, 2, 1)
    assert "0.3000" in told and "30.0%" in told and "layer 3, head 1" in told
    assert "&lt;b&gt;" in told and " <b>" + "<" not in told, "a token is text, not markup"
    assert by_tokens(event, 2, 1) == told
    assert "comes later" in explained(event, 0, 0, 2)
    assert "no such token" in by_tokens(event, 0, 3)
