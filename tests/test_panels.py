"""Figures, tables and words of the pages, without a browser."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from lab import runs
from lab.events import TraceMap
from lab.experiment import discover
from panels import cell, export, page, picker, trace
from panels.draw import draw, label


@pytest.fixture(scope="module")
def run():
    return runs.load(trace.EXAMPLE)


def test_there_is_a_finished_example(run):
    assert isinstance(run.result, TraceMap) and not np.isnan(run.result.effect).any() and run.result.answer == "Paris"


def test_the_same_event_gives_the_same_figure(run):
    assert draw(run.result).to_json() == draw(run.result).to_json()


def test_a_figure_shows_every_cell_and_leaves_pending_ones_blank(run):
    half = run.result.effect.copy()
    half[3:] = np.nan
    figure = draw(replace(run.result, effect=half))
    shown = np.array(figure.data[0].z, float)
    assert np.array_equal(shown, half, equal_nan=True)
    assert len(set(figure.data[0].y)) == len(run.result.tokens)
    begin, end = run.result.subject
    marked = [text.endswith("*") for text in figure.layout.yaxis.ticktext]
    assert marked == [begin <= i < end for i in range(len(marked))]
    draw(replace(run.result, effect=np.full_like(half, np.nan)))


def test_every_kind_of_event_has_a_figure_and_a_table():
    import importlib

    for name in discover():
        kind = importlib.import_module(f"lab.{name.split('.')[0]}").ENDS_WITH
        assert draw.dispatch(kind) is not draw.dispatch(object) and export.table.dispatch(kind) is not export.table.dispatch(object)
    with pytest.raises(TypeError, match=r"draw\.register"):
        draw(7)


def test_the_csv_holds_every_number(run):
    rows = list(csv.DictReader(io.StringIO(export.as_csv(run.result))))
    assert len(rows) == run.result.effect.size
    assert [float(r["effect"]) for r in rows] == run.result.effect.flatten().tolist()


def test_a_csv_cell_is_never_a_formula(run):
    evil = replace(run.result, tokens=("=cmd()", *run.result.tokens[1:]))
    assert "'=cmd()" in export.as_csv(evil)


def test_words_for_a_cell(run):
    event = run.result
    assert "before the subject" in cell.explain(run, 0, 0)
    best = int(np.argmax(event.effect[-1]))
    assert "last token" in cell.explain(run, len(event.tokens) - 1, best)
    assert "no such cell" in cell.explain(run, 0, 99) and "end" in cell.explain(None, 0, 0)
    nothing = SimpleNamespace(result=replace(event, effect=np.full_like(event.effect, np.nan)))
    assert "not been computed" in cell.explain(nothing, 3, 0)
    silent = SimpleNamespace(result=replace(event, effect=np.zeros_like(event.effect)))
    assert "changes nothing" in cell.explain(silent, len(event.tokens) - 1, 0)
    assert "less likely" in cell.explain(SimpleNamespace(result=replace(event, effect=event.effect - 1, effect_se=event.effect_se * 0)), 5, 0)
    assert label(event, event.subject[0]).endswith("*")


@pytest.mark.parametrize("subject, clicked, expected", [
    ("", (4, 11), "capital"), ("capital", (12, 14), "capital of"), ("of France", (4, 11), "capital of France"),
    ("of France", (15, 21), "France"), ("gone", (0, 3), "The")])
def test_clicking_tokens_chooses_the_subject(subject, clicked, expected):
    event = SimpleNamespace(_data={"index": list(clicked)})
    assert picker.choose("The capital of France is", subject, event) == expected


def test_tokens_are_escaped():
    assert "<script>" not in picker.button("<script>alert(1)</script>", 0, 3, False, "<script>")


def test_pages_are_found_in_order():
    assert [m.TITLE for m in page.pages()] == ["Start", "Trace"]


def test_known_facts_come_from_the_organism():
    facts = picker.known_facts("scribe")
    assert facts[0]["prompt"] == "The capital of France is" and facts[0]["answer"] == "Paris" and len(facts) > 15
    assert picker.known_facts("gpt2")
