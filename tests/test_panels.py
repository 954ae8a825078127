"""Figures, tables and words of the pages, without a browser."""

from __future__ import annotations

import ast
import csv
import importlib
import io
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from lab import events, runs
from lab.events import Progress, TraceMap
from lab.experiment import discover, setting
from models import catalog
from models.errors import BadInput
from panels import cell, export, form, gallery, home, page, picker
from panels.draw import LONG, draw, label, thumbnail
from panels.store import Shown

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def run():
    return runs.load(gallery.FOLDER / "trace-france.json")


@pytest.fixture(scope="module")
def event(run) -> TraceMap:
    return run.result


def test_there_is_a_finished_example_of_every_page(run):
    assert isinstance(run.result, TraceMap) and not np.isnan(run.result.effect).any() and run.result.answer == "Paris"
    assert {path.stem for path in gallery.FOLDER.glob("*.json")} == set(gallery.SHOWN)


def test_the_example_was_made_with_the_organism_that_is_here(run):
    assert run.model["weights"] == catalog.load("scribe").fingerprint(), "scribe was regrown: `make gallery` makes the examples again"


def test_the_gallery_is_made_by_a_command(tmp_path, run, monkeypatch, tiny_folder):
    settings = {"prompt": "the capital of France is", "subject": "France", "samples": 2}
    monkeypatch.setitem(gallery.SHOWN, "tiny", ("trace.causal", tiny_folder, settings))
    assert runs.load(gallery.make("tiny", tmp_path)).settings["samples"] == 2


def test_the_same_event_gives_the_same_figure_and_is_left_as_it_was(event):
    before = event.effect.copy()
    assert draw(event).to_json() == draw(event).to_json()
    assert np.array_equal(event.effect, before)


def test_a_figure_shows_every_cell_and_leaves_pending_ones_blank(event):
    half = event.effect.copy()
    half[3:] = np.nan
    figure = draw(replace(event, effect=half))
    assert np.array_equal(np.array(figure.data[0].z, float), half, equal_nan=True)
    begin, end = event.subject
    marked = [text.endswith("*") for text in figure.layout.yaxis.ticktext]
    assert marked == [begin <= i < end for i in range(len(marked))]
    nothing = draw(replace(event, effect=np.full_like(half, np.nan)))
    assert nothing.data[0].zmin == 0 and nothing.data[0].zmax > 0


def test_tokens_with_one_text_keep_rows_of_their_own(event):
    same = replace(event, tokens=tuple("the" for _ in event.tokens))
    figure = draw(same)
    assert list(figure.data[0].y) == list(range(len(same.tokens))) == list(figure.layout.yaxis.tickvals)


def test_the_title_states_what_was_measured(event):
    title = draw(event).layout.title.text
    for words in (f"P = {event.clean:.3f}", f"P* = {event.corrupted:.3f}", f"total effect {event.total_effect:.3f}",
                  f"{event.samples} noise samples", "Paris"):
        assert words in title


def test_a_long_prompt_keeps_the_title_on_three_lines_with_its_answer(event):
    title = draw(replace(event, prompt="a <b>long</b>\n" * 60)).layout.title.text
    assert title.count("<br>") == 2 and f"→ {event.answer}</b>" in title and "<b>long" not in title


def test_labels_are_short_visible_and_escaped(event):
    odd = replace(event, tokens=("\n", " ", "<b>", "x" * 99, *event.tokens[4:]))
    assert [label(odd, i) for i in range(4)] == ["⏎", "␣", "<b>", "x" * (LONG - 1) + "…"]
    assert "&lt;b&gt;" in draw(odd).layout.yaxis.ticktext[2] and "&lt;b&gt;" in thumbnail(odd)
    assert "<script>" not in picker.button("<script>alert(1)</script>", 0, 3, False, "<script>")


def test_a_figure_stands_on_any_ground(event):
    layout = draw(event).layout
    assert layout.paper_bgcolor == layout.plot_bgcolor == "rgba(0,0,0,0)"


@pytest.mark.parametrize("kind", events.KINDS.values(), ids=lambda kind: kind.__name__)
def test_every_kind_of_event_has_a_figure(kind):
    assert draw.dispatch(kind) is not draw.dispatch(object)


def test_progress_has_a_figure_too():
    assert draw(Progress(1, 4, "a quarter")).data[0].x == (0.25,) and draw(Progress(0, 0)).data[0].x == (0.0,)
    with pytest.raises(TypeError, match=r"draw\.register"):
        draw(7)
    with pytest.raises(TypeError, match=r"table\.register"):
        export.table(7)


def test_what_an_experiment_ends_with_has_a_table():
    for name in discover():
        kind = importlib.import_module(f"lab.{name.split('.')[0]}").ENDS_WITH
        assert export.table.dispatch(kind) is not export.table.dispatch(object)


def test_the_csv_holds_every_number(event):
    rows = list(csv.DictReader(io.StringIO(export.as_csv(event))))
    assert [float(r["effect"]) for r in rows] == event.effect.flatten().tolist()
    assert [float(r["effect_se"]) for r in rows] == event.effect_se.flatten().tolist()
    assert {r["token"] for r in rows if r["subject"] == "1"} == set(event.tokens[slice(*event.subject)])
    pending = replace(event, effect=np.full_like(event.effect, np.nan))
    assert {r["effect"] for r in csv.DictReader(io.StringIO(export.as_csv(pending)))} == {""}


def test_a_csv_cell_is_never_a_formula_and_a_number_stays_one(event):
    evil = export.as_csv(replace(event, tokens=("=cmd()", "-1+1", *event.tokens[2:]), effect=event.effect - 1))
    assert "'=cmd()" in evil and "'-1+1" in evil and "'-0" not in evil and "'-1." not in evil


def test_words_for_a_cell(event):
    last, best = len(event.tokens) - 1, int(np.argmax(event.effect[-1]))
    assert "before the subject" in cell.explain(Shown(event), 0, 0)
    assert "last token" in cell.explain(Shown(event), last, best)
    assert "no such cell" in cell.explain(Shown(event), 0, 99)
    assert "no longer" in cell.explain(None, 0, 0) and cell.explain(Shown(event), None, 0) == cell.HINT
    assert "not been computed" in cell.explain(Shown(replace(event, effect=np.full_like(event.effect, np.nan))), 3, 0)
    assert "changes nothing" in cell.explain(Shown(replace(event, effect=np.zeros_like(event.effect))), last, 0)
    assert "less likely" in cell.explain(Shown(replace(event, effect=event.effect - 1, effect_se=event.effect_se * 0)), last, 0)
    bright = Shown(replace(event, effect=np.ones_like(event.effect), effect_se=event.effect_se * 0, tokens=("<i>", *event.tokens[1:])))
    assert "belongs to the subject" in cell.explain(bright, event.subject[0], 0) and "&lt;i&gt;" in cell.explain(bright, 0, 0)


def test_the_brightest_cells(event):
    token, layer = cell.brightest(Shown(event), "subject")
    begin, end = event.subject
    assert begin <= token < end and event.effect[token, layer] == event.effect[begin:end].max()
    assert cell.brightest(Shown(event), "last") == (len(event.tokens) - 1, int(event.effect[-1].argmax()))
    assert cell.brightest(None, "last") == (None, None)
    assert cell.brightest(Shown(replace(event, effect=np.full_like(event.effect, np.nan))), "subject") == (None, None)
    only = replace(event, tokens=event.tokens[:2], effect=event.effect[:2], effect_se=event.effect_se[:2], subject=(0, 1))
    assert cell.brightest(Shown(only), "between") == (None, None)


@pytest.mark.parametrize("subject, clicked, expected", [
    ("", (4, 11), "capital"), ("capital", (12, 14), "capital of"), ("of France", (4, 11), "capital of France"),
    ("of France", (15, 21), "France"), ("gone", (0, 3), "The")])
def test_clicking_tokens_chooses_the_subject(subject, clicked, expected):
    clicked_on = SimpleNamespace(_data={"index": list(clicked)})
    assert picker.choose("The capital of France is", subject, clicked_on) == expected


def test_tokens_of_the_example_are_known_without_its_model(event):
    tokens, answers = picker.on_arrival(event)
    assert tokens.count('aria-pressed="true"') == event.subject[1] - event.subject[0] and "Paris" in answers
    assert picker.on_arrival(None) == ("", "")


def test_tokens_of_a_model_that_is_not_here():
    assert "quiet" in picker.show_tokens("/no/such/folder", "a prompt", "") and picker.show_answers("/no/such/folder", "a prompt") == ""


def test_known_facts_come_from_the_organism():
    facts = picker.known_facts("scribe")
    assert facts[0]["prompt"] == "The capital of France is" and facts[0]["answer"] == "Paris" and len(facts) > 15
    assert picker.known_facts("gpt2")


def test_a_control_shows_help_and_bounds():
    for name in discover():
        for f in fields(discover()[name]):
            control = form.control(f)
            assert f.metadata["help"] in control.info and control.label
    kinds = {f: form.control(SimpleNamespace(name="a", type=t, default=d, metadata=setting(d, "help", **more).metadata)).get_block_name()
             for f, t, d, more in (("tick", "bool", True, {}), ("pick", "str", "x", {"choices": ("x", "y")}), ("text", "str", "", {}),
                                   ("count", "int", 1, {}))}
    assert kinds == {"tick": "checkbox", "pick": "dropdown", "text": "textbox", "count": "number"}


def test_a_message_is_escaped():
    assert "<img" not in form.fault(BadInput("<img src=x>"))["value"] and "alert" in form.fault(BadInput("no"))["value"]


def test_the_opening_page_counts_what_the_organism_read():
    read = [item["copies"] for item in catalog.manifest("scribe")["passages"] if item["copies"] > 0]
    assert f"<b>{len(read)}</b> passages of prose, {min(read)} to {max(read)} times each" in home.counted("scribe")
    assert home.counted("nobody") == ""


def test_pages_are_found_in_order_and_stay_thin():
    found = page.pages()
    assert [m.TITLE for m in found] == ["Start", "Trace"]
    for module in found:
        assert Path(module.__file__).read_text().count("\n") < 100


def test_functions_fit_a_screen():
    for path in [ROOT / "app.py", *(ROOT / "panels").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 60, f"{path.name}: {node.name}"
