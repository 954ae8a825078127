"""Figures, tables and words of surveys, completions, tables and unlearning runs."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest

from lab.events import Completion, Edited, Survey, Table, Unlearning, from_json, to_json
from panels import chosen, draw_items, draw_unlearning, edits, export
from panels.draw import draw
from panels.draw_items import COPIES


@pytest.fixture
def survey() -> Survey:
    value = np.array([[0.9, 1.0], [0.1, 5.0], [np.nan, 3.0]])
    return Survey("Three <items>", ("author/A/pet", "passage/0", "canary/1"), ("A: pet", "Once upon", "<b>"), ("author", "passage", "canary"),
                  ("retain", "forget", "holdout"), np.array([46.0, 4.0, 0.0]), ("recall", "loss"), ("0 to 1", "nats, 0 and up"), (1, -1), value, ("a fact",))


@pytest.fixture
def completion() -> Completion:
    probability, rank = np.array([np.nan, 0.6, 0.1]), np.array([np.nan, 1.0, 3.0])
    return Completion("A text", ("The", " cat", " sat"), 1, probability, rank, ("", " cat", " ran"), " cat ran", "higher")


@pytest.fixture
def table() -> Table:
    return Table("A table", ("what", "now"), ("the metric", "its value, 0 to 1"), (("accuracy", 0.123456), ("KL <x>", None), ("=cmd", "a word")),
                 ("fact",), "no oracle")


@pytest.fixture
def run() -> Unlearning:
    nan = np.nan
    value = np.array([[1.0, 2.0, 3.0], [1.0, 1.1, 1.3], [nan, nan, 0.5], [0.9, nan, 0.4]])
    return Unlearning("Gradient difference", np.array([0.0, 1.0, 2.0]), ("forget", "retain", "forget", "forget"),
                      ("loss", "loss", "KL to the oracle", "accuracy"), ("as the oracle", "down", "down", "as the oracle"), value,
                      np.array([2.0, nan, 0.1, nan]), np.array([2.5, nan, 0.2, nan]), (("Q <1>", "Paris", "Paris", "London", "Rome"),), ("0", "1"),
                      np.array([0.01, 0.02]), 4.5)


@pytest.mark.parametrize("name", ["survey", "completion", "table", "run"])
def test_events_survive_json_and_are_drawn_alike_each_time(name, request):
    event = request.getfixturevalue(name)
    again = from_json(json.loads(json.dumps(to_json(event), allow_nan=False)))
    assert draw(again).to_json() == draw(event).to_json() and export.as_csv(again) == export.as_csv(event)
    assert type(again) is type(event)


@pytest.mark.parametrize("name, change", [("survey", {"kinds": ("a",)}), ("completion", {"likeliest": ()}), ("table", {"about": ()}), ("run", {"better": ()}),
                                          ("run", {"change": np.zeros(5)})])
def test_events_of_parts_that_do_not_fit_are_refused(name, change, request):
    with pytest.raises(ValueError):
        replace(request.getfixturevalue(name), **change)


def test_a_survey_is_drawn_with_a_point_an_item_and_its_title_escaped(survey):
    figure = draw_items.scatter(survey, COPIES, "recall")
    assert [len(t.x) for t in figure.data] == [1, 1, 0], "an item without the measure has no point"
    assert figure.data[0].customdata[0] == "author/A/pet" and "Three &lt;items&gt;" in figure.layout.title.text
    assert abs(figure.data[1].x[0] - 3) < 0.25 and list(figure.layout.xaxis.ticktext) == ["0", "4"]
    assert [len(t.x) for t in draw_items.scatter(survey, "recall", "loss", ["author"]).data] == [1]


def test_a_chosen_item_is_told_beside_the_others(survey):
    said = chosen.words(survey, "passage/0")
    assert "Once upon" in said and "4 copies" in said and "recall <b>0.1</b>" in said and "above 0%" in said
    assert "above 67%" in chosen.words(survey, "author/A/pet"), "a lower loss is more memorized"
    assert "&lt;b&gt;" in chosen.words(survey, "canary/1") and "recall" not in chosen.words(survey, "canary/1")
    rows = chosen.rows(survey)
    assert rows["headers"][-2:] == ["recall", "loss"] and rows["data"][2][-2:] == [None, 3.0]


def test_tables_of_figures_as_csv(survey, completion, table, run):
    lines = {name: list(csv.reader(io.StringIO(export.as_csv(event)))) for name, event in
             {"survey": survey, "completion": completion, "table": table, "run": run}.items()}
    assert lines["survey"][1] == ["author/A/pet", "A: pet", "author", "retain", "46", "0.9", "1.0"] and lines["survey"][3][5] == ""
    assert lines["completion"][2] == ["1", " cat", "0", "0.6", "1.0", " cat"]
    assert lines["table"][1:] == [["accuracy", "0.123456"], ["KL <x>", ""], ["'=cmd", "a word"]]
    assert lines["run"][0] == ["group", "series", "step", "value", "oracle_low", "oracle_high"] and len(lines["run"]) == 1 + 9


def test_curves_have_a_chart_a_group_a_band_for_the_oracles_and_a_mark(run):
    figure = draw_unlearning.curves(run, at=1.0)
    assert [a.text.split("</b>")[0] for a in figure.layout.annotations][:3] == ["<b>loss", "<b>KL to the oracle", "<b>accuracy"]
    assert sum(t.type == "scatter" for t in figure.data) == 4 and sum(t.type == "bar" for t in figure.data) == 1
    bands = [s for s in figure.layout.shapes if s.type == "rect"]
    assert [(b.y0, b.y1) for b in bands] == [(2.0, 2.5), (0.1, 0.2)]
    assert sum(s.type == "line" for s in figure.layout.shapes) == 3 and "cost 4.5" in figure.layout.title.text


def test_no_two_series_look_alike_and_shares_have_the_whole_axis(run):
    names = ("its prompt", "other memories", "plain captions", "retain", "forget", "a", "b", "c", "d")
    many = replace(run, groups=("named right",) * 9, series=names, better=("up",) * 9, value=np.ones((9, 3)), low=np.full(9, np.nan), high=np.full(9, np.nan))
    assert len({draw_unlearning.style(many, name) for name in names}) == 9
    assert draw_unlearning.style(many, "forget") == draw_unlearning.style(run, "forget"), "known series look the same in every run"
    assert draw_unlearning.curves(many).layout.yaxis.range == pytest.approx((-0.06, 1.06))


def test_runs_over_each_other_at_equal_forgetting(run):
    other = replace(run, title="NPO", value=run.value * np.array([[1.0], [2.0], [1.0], [1.0]]))
    curves = draw_unlearning.overlay([("a", run), ("b", other)])
    assert curves.lines == ("a", "b") and curves.x[0] == 1.0 and curves.x[-1] == 3.0
    assert curves.value[0, 0] == 1.0 and curves.value[0, -1] == pytest.approx(1.3) and curves.value[1, -1] == pytest.approx(2.6)
    assert draw_unlearning.pareto([("a", run)]) is None, "neither the KL on both sets nor the probability was measured"
    likely = replace(run, groups=("loss", "loss", "KL to the oracle", "probability"))
    points = draw_unlearning.pareto([("a", likely), ("b", replace(likely, cost=9.0))])
    assert points.y_name == "retain loss, nats" and points.x.tolist() == [0.4, 0.4] and points.labels == ("a, cost 4", "b, cost 9")
    truth = replace(run, groups=("KL to the oracle", "KL to the oracle", "loss", "loss"))
    assert draw_unlearning.pareto([("a", truth)]).y.tolist() == [1.3]
    assert draw_unlearning.overlay([]) is None and draw_unlearning.pareto([]) is None


def test_answers_beside_each_other_are_escaped_and_marked(run):
    said = edits.answers(run)
    assert "Q &lt;1&gt;" in said and "said-wrong" in said and "Rome" in said
    right = edits.answers(replace(run, samples=(("q", "Paris", "Paris", " paris in spring", ""),)))
    assert "said-right" in right and "–" in right
    assert edits.answers(None) == ""


def test_a_live_value_is_in_no_record():
    from lab.events import KINDS, LIVE
    assert Edited in LIVE and "Edited" not in KINDS
