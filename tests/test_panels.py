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
from lab.events import Curves, Grid, Progress, Scatter, TraceMap, from_json, to_json
from lab.experiment import discover, setting
from models import catalog
from models.errors import BadInput
from panels import cell, closer, compare, computed, export, form, gallery, home, page, picker, terms
from panels.draw import FINE, LONG, draw, exact, label, thumbnail
from panels.runner import desk
from panels.store import Shown
from panels.theme import words

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def run():
    return runs.load(gallery.FOLDER / "trace-france.json")


@pytest.fixture(scope="module")
def event(run) -> TraceMap:
    return run.result


@pytest.fixture
def grid() -> Grid:
    value = np.array([[-1.0, 0.25, np.nan], [0.5, 0.0, 2.0]])
    return Grid("A <grid>", ("one", "two"), ("0", "1", "2"), "token", "layer", value, np.array([[0.1, np.nan, np.nan], [0.2, 0.0, 0.3]]), "nats", "higher",
                ("a fact",), (("=a", "b", ""), ("a word too long", "<b>", "e")), diverging=True)


@pytest.fixture
def curves() -> Curves:
    value = np.array([[0.1, 0.2, np.nan], [0.3, 0.3, 0.3]])
    error = np.array([[0.01, 0.02, np.nan], [np.nan] * 3])
    return Curves("Curves", ("accuracy", "chance"), np.array([-1.0, 0.0, 1.0]), "layer", value, error, "share", "higher")


@pytest.fixture
def points() -> Scatter:
    return Scatter("Points", ("a", "<b>"), np.array([0.0, 2.0]), np.array([-1.0, 3.0]), "guess", "exact", True, "higher", ("a fact " * 20,))


@pytest.fixture
def grouped(points) -> Scatter:
    return replace(points, labels=("a", "<b>", "c"), x=np.array([0.0, 2.0, 1.0]), y=np.array([-1.0, 3.0, 0.0]), groups=("trigger", "<plain>", "trigger"))


@pytest.fixture(scope="module")
def half(event) -> TraceMap:
    """A map of MLPs in windows of two, two of whose rows are approximations yet."""
    guess, windows = event.effect * 0.8, tuple((max(0, layer - 1), layer + 1) for layer in event.layers)
    effect = event.effect.copy()
    effect[:2] = guess[:2]
    return replace(event, effect=effect, approximation=guess, pending=(0, 1), kind="mlp", windows=windows)


def test_there_is_a_finished_example_of_every_desk(run):
    assert isinstance(run.result, TraceMap) and not np.isnan(run.result.effect).any() and run.result.answer == "Paris"
    assert {path.stem for path in gallery.FOLDER.glob("*.json")} == set(gallery.SHOWN)
    assert {experiment for experiment, _, _ in gallery.SHOWN.values()} >= set(discover())
    further = {name: desk(name, gallery.FOLDER / f"{name.replace('.', '-')}.json") for name in closer.names(desk("trace.causal"))}
    assert all(work.first and work.first.experiment == name for name, work in further.items())


@pytest.mark.parametrize("name", gallery.SHOWN)
def test_the_examples_are_current(name):
    made, (experiment, model, settings) = runs.load(gallery.FOLDER / f"{name}.json"), gallery.SHOWN[name]
    again = "`make gallery` makes the examples again"
    assert made.model["weights"] == catalog.load(model).fingerprint(), f"{model} was regrown: {again}"
    assert made.finished and made.experiment == experiment and settings.items() <= made.settings.items(), again
    assert set(made.settings) == {f.name for f in fields(discover()[experiment])}, f"{experiment} has other settings now: {again}"


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
    for said in (f"P = {event.clean:.3f}", f"P* = {event.corrupted:.3f}", f"total effect {event.total_effect:.3f}",
                 f"{event.samples} noise samples", "Paris", "probability of the answer that came back"):
        assert said in title


@pytest.mark.parametrize("changed, said", [
    ({"score": "log probability", "clean": -0.5, "corrupted": -4.0}, ("log P: -0.50 undisturbed · -4.00 with noise", "log probability of the answer")),
    ({"score": "logit difference", "foil": " Rome<", "corruption": "replacement"}, ("logit over Rome&lt;:", "with others", "20 other subjects")),
    ({"score": "probability recovered", "corruption": "zero"}, ("share of the lost probability that came back", "0 with zeros"))])
def test_the_title_names_other_scores_and_corruptions(event, changed, said):
    title = draw(replace(event, **changed)).layout.title.text
    assert all(part in title for part in said) and "P = " not in title and ("noise samples" in title) == ("corruption" not in changed)


def test_the_axis_and_the_cells_say_what_was_restored(event, half):
    assert draw(event).layout.xaxis.title.text == "state restored after layer"
    assert draw(half).layout.xaxis.title.text == "MLP outputs restored around layer (window of 2)"
    assert "MLPs of layers 0 to 1" in draw(half).data[0].text[0][1] and "MLP of layer 0" in draw(half).data[0].text[0][0]
    severed = replace(event, kind="severed attention")
    assert "attention above held" in draw(severed).layout.xaxis.title.text and terms.place(severed, 2) == "after layer 2, attention above held"
    assert draw(replace(half, kind="attention", windows=event.windows)).layout.xaxis.title.text == "attention output restored in layer"


def test_windows_that_are_cut_off_are_framed(event, half):
    assert terms.edges(event) == [] and terms.edges(half) == [(0, 0)]
    wide = replace(half, windows=tuple((max(0, c - 2), min(len(half.layers), c + 3)) for c in half.layers))
    last = len(half.layers) - 1
    assert terms.edges(wide) == [(0, 1), (last - 1, last)]
    assert [shape.name for shape in draw(wide).layout.shapes] == ["subject", "edge", "edge"]


def test_rows_to_come_are_faint_and_marked(half):
    figure = draw(half)
    assert [name.startswith("≈ ") for name in figure.layout.yaxis.ticktext] == [row < 2 for row in range(len(half.tokens))]
    run, guess = (np.array(trace.z, float) for trace in figure.data)
    assert np.isnan(run[:2]).all() and not np.isnan(run[2:]).any() and np.array_equal(guess[:2], half.effect[:2]) and np.isnan(guess[2:]).all()
    assert figure.data[1].opacity < 0.6 and len(draw(replace(half, pending=())).data) == 1


def test_a_grid_shows_its_numbers_its_words_and_zero_in_the_middle(grid):
    cells = draw(grid).data[0]
    assert np.array_equal(np.array(cells.z, float), grid.value, equal_nan=True) and (cells.zmin, cells.zmax) == (-2, 2)
    assert list(cells.text[1]) == ["a word t…", "&lt;b&gt;", "e"] and cells.colorscale[3][1].endswith("0.13)")
    assert cells.customdata[0][0] == "<b>one</b>, layer 0<br>-1 ± 0.1<br>=a" and "±" not in cells.customdata[0][1]
    plainer = draw(replace(grid, diverging=False, notes=())).data[0]
    assert plainer.text is None and (plainer.zmin, plainer.zmax) == (-1, 2)
    assert "A &lt;grid&gt;" in draw(grid).layout.title.text and "nats" in draw(grid).layout.title.text
    nothing = draw(replace(grid, value=np.full_like(grid.value, np.nan))).data[0]
    assert nothing.zmax > nothing.zmin and all(z is None or np.isnan(z) for row in nothing.z for z in row)


def test_curves_have_bands_where_there_are_errors(curves):
    traces = draw(curves).data
    assert [(t.name, t.fill) for t in traces] == [("accuracy", "toself"), ("accuracy", None), ("chance", None)]
    assert list(traces[0].y) == pytest.approx([0.11, 0.22, 0.18, 0.09]) and traces[1].line.color != traces[2].line.color
    assert traces[1].line.dash != traces[2].line.dash and list(traces[1].customdata) == [" ± 0.01", " ± 0.02", ""]


def test_points_lie_about_the_diagonal_where_both_axes_are_one_quantity(points):
    (line,) = draw(points).layout.shapes
    assert (line.x0, line.y0, line.x1, line.y1) == (-1, -1, 3, 3) and draw(points).data[0].text == ("a", "&lt;b&gt;")
    assert not draw(replace(points, same=False)).layout.shapes
    nothing = replace(points, labels=(), x=np.array([]), y=np.array([]))
    assert draw(nothing).data[0].x.size == 0
    assert all(len(line) < FINE + 40 for line in draw(points).layout.title.text.split("<br>"))


def test_a_long_prompt_keeps_the_title_on_four_lines_with_its_answer(event):
    title = draw(replace(event, prompt="a <b>long</b>\n" * 60)).layout.title.text
    assert title.count("<br>") == 3 and f"→ {event.answer}</b>" in title and "<b>long" not in title


def test_labels_are_short_visible_and_escaped(event):
    odd = replace(event, tokens=("\n", " ", "<b>", "x" * 99, *event.tokens[4:]))
    assert [label(odd, i) for i in range(4)] == ["⏎", "␣", "<b>", "x" * (LONG - 1) + "…"]
    assert "&lt;b&gt;" in draw(odd).layout.yaxis.ticktext[2] and "&lt;b&gt;" in thumbnail(odd)
    assert "<script>" not in picker.button("<script>alert(1)</script>", 0, 3, False, "<script>")


def test_a_figure_stands_on_any_ground(event, grid, curves, points):
    for each in (event, grid, curves, points, Progress(1, 2)):
        layout = draw(each).layout
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
        kinds = importlib.import_module(f"lab.{name.split('.')[0]}").ENDS_WITH
        for kind in kinds if isinstance(kinds, tuple) else (kinds,):
            assert export.table.dispatch(kind) is not export.table.dispatch(object)


def test_the_csv_holds_every_number(event):
    rows = list(csv.DictReader(io.StringIO(export.as_csv(event))))
    assert [float(r["effect"]) for r in rows] == event.effect.flatten().tolist()
    assert [float(r["effect_se"]) for r in rows] == event.effect_se.flatten().tolist()
    assert {r["token"] for r in rows if r["subject"] == "1"} == set(event.tokens[slice(*event.subject)])
    pending = replace(event, effect=np.full_like(event.effect, np.nan))
    assert {r["effect"] for r in csv.DictReader(io.StringIO(export.as_csv(pending)))} == {""}


def test_the_csv_tells_an_approximation_from_what_was_run(half):
    rows = list(csv.DictReader(io.StringIO(export.as_csv(half))))
    assert [float(r["approximation"]) for r in rows] == half.approximation.flatten().tolist()
    assert [r["effect"] == "" for r in rows] == np.isnan(exact(half)).flatten().tolist()


def test_the_csv_of_grids_curves_and_points(grid, curves, points):
    rows = list(csv.DictReader(io.StringIO(export.as_csv(grid))))
    assert [r["value"] for r in rows] == ["-1.0", "0.25", "", "0.5", "0.0", "2.0"] and rows[0]["note"] == "'=a" and rows[5]["column_name"] == "2"
    assert "note" not in export.as_csv(replace(grid, notes=()))
    assert export.as_csv(curves).splitlines()[:2] == ["line,x,value,error", "accuracy,-1.0,0.1,0.01"] and "accuracy,1.0,," in export.as_csv(curves)
    assert export.as_csv(points).splitlines() == ["label,x,y", "a,0.0,-1.0", "<b>,2.0,3.0"]


def test_groups_of_points_have_a_colour_a_shape_and_a_column(points, grouped):
    first, second = draw(grouped).data
    assert (first.name, first.text, list(first.x)) == ("trigger", ("a", "c"), [0.0, 1.0]) and second.name == "&lt;plain&gt;"
    assert first.marker.color != second.marker.color and first.marker.symbol != second.marker.symbol and first.showlegend
    assert not draw(points).data[0].showlegend, "what has no groups needs no legend"
    assert export.as_csv(grouped).splitlines()[:2] == ["label,x,y,group", "a,0.0,-1.0,trigger"]
    with pytest.raises(ValueError):
        replace(grouped, groups=("one",))


def test_a_record_from_before_a_field_was_there_is_read(points):
    old = to_json(points)
    del old["groups"]
    assert draw(from_json(old)).to_json() == draw(points).to_json()
    for other in (old | {"group": []}, {k: v for k, v in old.items() if k != "labels"}):
        with pytest.raises(ValueError):
            from_json(other)


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


def test_words_for_a_cell_follow_its_kind_and_corruption(event, half):
    begin = event.subject[0]
    bright = {"effect": np.ones_like(event.effect), "effect_se": event.effect_se * 0, "pending": ()}
    mlp = cell.explain(Shown(replace(half, **bright)), begin, 1)
    assert "MLPs of layers 0 to 1: <b>+1.000" in mlp and "Restoring what the MLPs of layers 0 to 1 added" in mlp and "≈" not in mlp
    attention = cell.explain(Shown(replace(half, **bright, kind="attention", corruption="zero")), begin, 1)
    assert "the zeros in place of the subject took" in attention and "from other tokens" in attention
    severed = cell.explain(Shown(replace(event, **bright, kind="severed mlp")), begin, 3)
    assert "with the MLPs of the layers above it held as disturbed" in severed and "passed through the MLPs above" in severed
    waiting = cell.explain(Shown(half), 0, 0)
    assert "≈" in waiting and "has not been run yet" in waiting


def test_how_a_map_was_computed_is_told(event, half):
    said = computed.told(replace(event, engine="suffix", check=3e-8, cells=60, filled=20, flops=1.2e9, loop_flops=12e9, replaced=("Sp<ain",)))
    for part in ("its own token and layer on", "differ by 3e-08", "60 cells. 20 of them (33%)", "1.2 billion operations: 1/10 of the 12 billion", "Sp&lt;ain"):
        assert part in said
    assert "are the same" in computed.told(replace(event, check=0.0)) and "shorter way" in computed.told(replace(event, engine="plain"))
    assert "Rows marked ≈" in computed.told(half) and "Run a map" in computed.told(None)
    assert computed.operations(5) == "5 operations" and computed.operations(3.04e15) == "3.04 quadrillion operations"


def test_the_approximation_is_set_against_the_exact_cells(event, half):
    drawn = computed.against(half)
    assert drawn.same and np.allclose(drawn.x, drawn.y * 0.8) and len(drawn.labels) == (exact(half)[2:] != 0).sum()
    assert drawn.facts[0].startswith("Spearman 1.00 · Pearson 1.00") and "has 10 among its own 10" in drawn.facts[1]
    assert computed.against(replace(event, approximation=np.full_like(event.effect, np.nan))) is None and computed.against(None) is None
    assert computed.ranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1.0, 3.5, 2.0]
    x, y = np.array([1.0, 2.0, 2.0, 4.0]), np.array([1.0, 3.0, 2.0, 0.0])
    assert computed.correlation(computed.ranks(x), computed.ranks(y)) == pytest.approx(-0.3162, abs=1e-4)


def test_what_is_held_is_told(run):
    assert compare.described(Shown(run.result, run)) == "<p>A: <b>The capital of France is → Paris</b>, hidden states on scribe</p>"


def test_further_desks_follow_in_their_order_and_have_words():
    found = [name.partition(".")[2] for name in closer.names(desk("trace.causal"))]
    assert [name for name in closer.ORDER if name in found] == found[: len(set(closer.ORDER) & set(found))] and "causal" not in found
    assert set(words("closer")) >= {f"trace.{name}" for name in found}


def test_the_brightest_cells(event):
    token, layer = cell.brightest(Shown(event), "subject")
    begin, end = event.subject
    assert begin <= token < end and event.effect[token, layer] == event.effect[begin:end].max()
    assert cell.brightest(Shown(event), "last") == (len(event.tokens) - 1, int(event.effect[-1].argmax()))
    assert cell.brightest(None, "last") == (None, None)
    assert cell.brightest(Shown(replace(event, effect=np.full_like(event.effect, np.nan))), "subject") == (None, None)
    only = replace(event, tokens=event.tokens[:2], effect=event.effect[:2], effect_se=event.effect_se[:2], approximation=event.approximation[:2],
                   subject=(0, 1))
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
    assert [m.TITLE for m in found] == ["Start", "Find", "Trace", "Attention", "Unlearn", "Pictures", "Recall"]
    for module in found:
        assert Path(module.__file__).read_text().count("\n") < 100


def test_functions_fit_a_screen():
    for path in [ROOT / "app.py", *(ROOT / "panels").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 60, f"{path.name}: {node.name}"
