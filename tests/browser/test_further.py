"""The folded parts of the Trace page: groups of settings, how a map was computed, comparing two maps, and the further experiments."""

from __future__ import annotations

import json

import pytest

from lab.experiment import discover
from panels import closer
from panels.runner import desk
from tests.browser.conftest import PLOT, TITLE, ask, box, choose, effect, fault, fold, open_trace, run_and_wait, type_into

FURTHER = [name.replace(".", "-") for name in closer.names(desk("trace.causal"))]
LENS = "document.querySelector('#trace-lens-plot .js-plotly-plot')"
needs_lens = pytest.mark.skipif("trace.lens" not in discover(), reason="there is no trace.lens yet")


def opened(page, key: str):
    """The desk `key`, unfolded, with its finished example."""
    page.locator(f"#{key}-fold > button").click()
    page.wait_for_selector(f"#{key}-plot .js-plotly-plot .main-svg")
    return page.locator(f"#{key}-fold")


def finished(page, key: str) -> None:
    page.locator(f"#{key}-progress").filter(has_text="Done in").wait_for()


def test_what_is_folded_away_costs_nothing_on_arrival(trace_page, measured):
    assert trace_page.locator(".js-plotly-plot").count() == 1
    assert trace_page.locator(".closer").count() == len(FURTHER)
    assert trace_page.locator("#setting-kind, #setting-samples, #setting-score, #trace-lens-run").count() == 0
    paint = trace_page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime") / 1000
    weight = trace_page.evaluate("fetch(location.href).then((r) => r.text()).then((text) => text.length)") / 1000
    measured(f"first paint of the Trace page after {paint:.2f} s, its HTML is {weight:.0f} kB")
    pages = trace_page.locator("#pages [role=tab]").count()
    assert paint < 5 and weight < 150 * pages, "so much for each page of the lab"


def test_every_further_experiment_opens_with_a_finished_figure(trace_page):
    for key in FURTHER:
        part = opened(trace_page, key)
        assert trace_page.evaluate(f"document.querySelector('#{key}-plot .js-plotly-plot').layout.title.text").startswith("<b>")
        assert "What it does not show" in part.inner_text() and "arXiv" in part.inner_text()
        trace_page.locator(f"#{key}-fold > button").click()
    trace_page.locator(f"#{FURTHER[0]}-fold > button").click()
    ids = trace_page.evaluate("[...document.querySelectorAll('[id]')].map((e) => e.id).filter((id) => id.startsWith('setting-') || id.startsWith('trace-'))")
    assert len(ids) == len(set(ids))


def test_further_experiments_fit_a_phone(browser, address):
    page = open_trace(browser.new_page(viewport={"width": 390, "height": 844}), address)
    for key in FURTHER:
        opened(page, key)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, key
    page.close()


@needs_lens
def test_a_further_experiment_asks_about_the_prompt_above_and_its_link_restores_it(trace_page, context, organism):
    before = effect(trace_page)
    opened(trace_page, "trace-lens")
    assert "Paris" in trace_page.evaluate(f"{LENS}.layout.title.text")
    ask(trace_page, "The capital of Iceland is", "Iceland")
    trace_page.click("#trace-lens-run")
    finished(trace_page, "trace-lens")
    trace_page.wait_for_function(f"{LENS}.layout.title.text.includes('Reykjavik')")
    assert effect(trace_page) == before, "the map above is not touched"
    assert "experiment=trace.lens" in trace_page.url
    trace_page.click("#trace-lens-link")
    trace_page.get_by_text("Link copied").wait_for()
    other = context.new_page()
    other.goto(trace_page.url)
    finished(other, "trace-lens")
    other.wait_for_function(f"{LENS}.layout.title.text.includes('Reykjavik')")
    assert box(other, "prompt").input_value() == "The capital of Iceland is" and "Paris" in other.evaluate(TITLE)
    other.wait_for_function("window.scrollY > 300")


@needs_lens
def test_files_of_a_further_experiment(trace_page, tmp_path, organism):
    opened(trace_page, "trace-lens")
    with trace_page.expect_download() as found:
        trace_page.click("#trace-lens-csv")
    assert found.value.path().read_text().startswith("row,row_name,column,column_name,value,error,note")
    type_into(trace_page, "prompt", "The capital of Greece is")
    type_into(trace_page, "answer", "")
    trace_page.click("#trace-lens-run")
    finished(trace_page, "trace-lens")
    with trace_page.expect_download() as found:
        trace_page.click("#trace-lens-json")
    found.value.save_as(tmp_path / "run.json")
    assert json.loads((tmp_path / "run.json").read_text())["experiment"] == "trace.lens"
    trace_page.goto(trace_page.url.partition("?")[0] + "?panel=trace&experiment=trace.lens")
    trace_page.wait_for_function(f"{LENS}?.layout?.title?.text?.includes('Paris')")
    upload = trace_page.locator("#trace-lens-fold input[type=file]")
    upload.set_input_files(tmp_path / "run.json")
    trace_page.wait_for_function(f"{LENS}.layout.title.text.includes('Athens')")
    assert box(trace_page, "prompt").input_value() == "The capital of Greece is"
    trace_page.locator("#trace-causal-open input[type=file], input[type=file]").first.set_input_files(tmp_path / "run.json")
    fault(trace_page, "file", "this is a run of trace.lens").wait_for()


@needs_lens
def test_a_fault_in_a_shared_control_is_told_at_both_places(trace_page, organism):
    opened(trace_page, "trace-lens")
    type_into(trace_page, "prompt", "")
    trace_page.click("#trace-lens-run")
    fault(trace_page, "prompt", "prompt is empty").wait_for()
    trace_page.locator("#trace-lens-fold .fault p").filter(has_text="prompt is empty").wait_for()


@pytest.mark.skipif("trace.heads" not in discover(), reason="there is no trace.heads yet")
def test_a_link_fills_the_own_controls_of_a_further_experiment(page, address, organism):
    open_trace(page, address, "?panel=trace&experiment=trace.heads&token=4&samples=3")
    finished(page, "trace-heads")
    assert [page.locator(f"#setting-trace-heads-{name} input").input_value() for name in ("token", "samples")] == ["4", "3"]
    page.wait_for_function("document.querySelector('#trace-heads-plot .js-plotly-plot').layout.title.text.includes('token 4')")


def test_groups_of_settings_change_the_map_and_what_is_said_of_it(trace_page, organism):
    for title, setting, option in (("What is restored", "kind", "mlp"), ("How it is scored", "score", "logit difference")):
        fold(trace_page, title).click()
        trace_page.locator(f"#setting-{setting} input").wait_for()
        trace_page.wait_for_timeout(500)
        choose(trace_page, setting, option)
    run_and_wait(trace_page)
    assert "logit over" in trace_page.evaluate(TITLE) and "MLP" in trace_page.evaluate(f"{PLOT}.layout.xaxis.title.text")
    trace_page.click("#trace-causal-last")
    trace_page.locator("#trace-causal-cell").filter(has_text="MLP").wait_for()
    fold(trace_page, "How this was computed").click()
    trace_page.get_by_text("plain forward pass").first.wait_for()
    fold(trace_page, "Was the approximation good?").click()
    drawn = "document.querySelector('#trace-causal-against-plot .js-plotly-plot')"
    trace_page.wait_for_function(f"{drawn}?.layout?.title?.text?.includes('Spearman')")
    ask(trace_page, "The capital of Iceland is", "Iceland")
    before = trace_page.evaluate(f"{drawn}.layout.title.text")
    run_and_wait(trace_page)
    trace_page.wait_for_function(f"(before) => {drawn}?.layout?.title?.text !== before", arg=before)


def test_two_maps_are_compared(trace_page, tmp_path, organism):
    fold(trace_page, "Compare two maps").click()
    trace_page.click("#trace-causal-compare-show")
    fault(trace_page, "compare", "no map is held as A").wait_for()
    trace_page.click("#trace-causal-compare-hold")
    trace_page.locator("#trace-causal-compare-held").filter(has_text="The capital of France is → Paris").wait_for()
    one = effect(trace_page)
    trace_page.locator("#trace-facts input").click()
    trace_page.get_by_role("option", name="Iceland: capital").click()
    trace_page.wait_for_function("document.querySelector('#setting-subject textarea, #setting-subject input').value === 'Iceland'")
    run_and_wait(trace_page)
    two = effect(trace_page)
    trace_page.click("#trace-causal-compare-show")
    drawn = "document.querySelector('#trace-causal-compare-plot .js-plotly-plot')"
    trace_page.wait_for_function(f"{drawn}?.calcdata?.[0]?.[0]?.z && {drawn}.querySelector('.heatmaplayer')")
    last = trace_page.evaluate(f"Array.from({drawn}.calcdata[0][0].z.at(-1))")
    assert last == pytest.approx([b - a for a, b in zip(one[-1], two[-1], strict=True)], abs=1e-6)
    with trace_page.expect_download() as found:
        trace_page.click("#trace-causal-compare-csv")
    assert found.value.path().read_text().startswith("row,row_name")
    with trace_page.expect_download() as found:
        trace_page.click("#trace-causal-json")
    found.value.save_as(tmp_path / "b.json")  # and from saved runs
    trace_page.goto(trace_page.url.partition("?")[0] + "?panel=trace")
    trace_page.wait_for_function(f"{PLOT} && {PLOT}.calcdata")
    trace_page.locator("#trace-causal-open input[type=file], input[type=file]").first.set_input_files(tmp_path / "b.json")
    trace_page.locator("#trace-causal-progress").filter(has_text="Press Run to repeat it").wait_for()
    fold(trace_page, "Compare two maps").click()
    trace_page.click("#trace-causal-compare-hold")
    trace_page.locator("#trace-causal-compare-held").filter(has_text="Reykjavik").wait_for()
    trace_page.click("#trace-causal-compare-show")
    trace_page.wait_for_function(f"{drawn}?.calcdata?.[0]?.[0]?.z && {drawn}.calcdata[0][0].z.every((row) => row.every((v) => v === 0))")


def test_a_running_map_shows_its_approximation_first(trace_page, organism):
    trace_page.evaluate(f"""() => {{ window.seen = [];
        const look = () => {{ const rows = {PLOT}?.layout?.yaxis?.ticktext ?? []; seen.push(rows.filter((text) => text.startsWith('≈')).length);
          requestAnimationFrame(look); }}; look(); }}""")
    ask(trace_page, "The capital of Iceland is", "Iceland")
    run_and_wait(trace_page)
    assert trace_page.evaluate("Math.max(...seen)") >= 3 and trace_page.evaluate("seen.at(-1)") == 0


def test_subjects_that_could_take_the_place_of_this_one_are_offered(trace_page, organism):
    fold(trace_page, "How it is corrupted").click()
    choose(trace_page, "corruption", "replacement")
    trace_page.locator("#trace-replacements button", has_text="Germany").click()
    trace_page.wait_for_function("document.querySelector('#setting-replacement textarea, #setting-replacement input').value === 'Germany'")
    trace_page.locator("#trace-replacements button", has_text="Peru").click()
    trace_page.wait_for_function("document.querySelector('#setting-replacement textarea, #setting-replacement input').value === 'Germany; Peru'")
