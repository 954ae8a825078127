"""The Trace page: runs, Stop, bad input, cells, tokens, links and files."""

from __future__ import annotations

import json
import time

import pytest

from tests import serving
from tests.browser.conftest import FINISHED, PLOT, TITLE, ask, box, effect, fault, fold, open_trace, run_and_wait, type_into, unfold

LONG = "The capital of France is a city, and the capital of Spain is a city, and the capital of Italy is a city, " * 2 + "and the capital of France is"
# Starts a clock at the click, and stops it when a map is drawn that has rows and still lacks some.
CLOCK = """() => { window.first = null;
  const run = document.querySelector('#trace-causal-run');
  run.addEventListener('click', () => { window.began = performance.now(); }, { once: true, capture: true });
  const look = () => { const rows = PLOT?.calcdata?.[0]?.[0]?.z?.map((row) => Number.isFinite(row[0])) ?? [];
    if (window.began && rows.includes(true) && rows.includes(false)) window.first = performance.now() - window.began;
    else requestAnimationFrame(look); };
  look(); }""".replace("PLOT", PLOT)


def start_long(page) -> None:
    """A run that takes long enough to be stopped."""
    unfold(page)
    type_into(page, "samples", "100")
    ask(page, LONG, "Italy")
    page.click("#trace-causal-run")
    page.locator("#trace-causal-progress").filter(has_text="token").wait_for()


def blank(page) -> int:
    return sum(value is None for row in effect(page) for value in row)


def test_a_run_shows_its_first_row_at_once(trace_page, organism, measured):
    run_and_wait(trace_page)  # the first run of a server may still bring in its libraries
    times = []
    for _ in range(3):
        trace_page.evaluate(CLOCK)
        trace_page.click("#trace-causal-run")
        trace_page.wait_for_function("window.first !== null")
        times.append(trace_page.evaluate("window.first") / 1000)
        trace_page.wait_for_function(FINISHED)
    measured(f"first row of a run on the page after {', '.join(f'{t:.2f}' for t in times)} s")
    assert min(times) < 3, "the first row took more than three seconds, on a machine however busy"


def test_two_visitors_do_not_see_each_other(browser, address, organism):
    pages = [open_trace(browser.new_context().new_page(), address) for _ in range(2)]
    for page, country in zip(pages, ("Greece", "Iceland"), strict=True):
        ask(page, f"The capital of {country} is", country)
    for page in pages:
        page.click("#trace-causal-run")
    for page, country in zip(pages, ("Greece", "Iceland"), strict=True):
        page.wait_for_function(FINISHED)
        assert f"capital of {country}" in page.evaluate(TITLE)
        page.click("#trace-causal-subject")
        page.locator("#trace-causal-cell .numbers").wait_for()
    one, other = (page.locator("#trace-causal-shown textarea, #trace-causal-shown input").first.input_value() for page in pages)
    assert one != other
    for page in pages:
        page.context.close()


def test_stop_leaves_no_work_running_and_keeps_what_was_computed(trace_page, address, organism):
    start_long(trace_page)
    trace_page.wait_for_function(f"{TITLE}.includes('…') && {PLOT}.calcdata?.[0]?.[0]?.z")  # a first row was run
    trace_page.click("#trace-causal-stop")
    trace_page.locator("#trace-causal-progress").filter(has_text="Stopped").wait_for()
    serving.wait_until(lambda: serving.status(address)["busy"] is False, 10)
    before = effect(trace_page)
    assert blank(trace_page) > 0
    time.sleep(1)
    assert effect(trace_page) == before and serving.status(address)["runs"] == 0
    with trace_page.expect_download() as found:
        trace_page.click("#trace-causal-json")
    assert json.loads(found.value.path().read_text())["finished"] is False
    trace_page.click("#trace-causal-stop")
    trace_page.locator("#trace-causal-progress").filter(has_text="Nothing is running").wait_for()


def test_a_visitor_who_leaves_leaves_nothing_behind(browser, address, organism):
    context = browser.new_context()
    start_long(open_trace(context.new_page(), address))
    context.close()
    serving.wait_until(lambda: serving.status(address)["busy"] is False, 30)
    serving.wait_until(lambda: serving.status(address)["runs"] == 0, 30)


@pytest.mark.parametrize("setting, text, words", [
    ("subject", "Atlantis", "does not stand in the prompt"), ("subject", "", "subject is empty"),
    ("answer", "zeppelin", "nothing to trace"), ("prompt", "", "prompt is empty"), ("prompt", "France " * 400, "tokens long"),
    ("samples", "1", "It takes 2 to 100"), ("noise", "", "noise is")])
def test_bad_input_is_told_beside_its_control(trace_page, organism, setting, text, words):
    before, shown = effect(trace_page), trace_page.evaluate(TITLE)
    if setting in ("samples", "noise"):
        unfold(trace_page)
        type_into(trace_page, setting, text)
        fold(trace_page, "How it is corrupted").click()  # closed: the message opens it again
    else:
        type_into(trace_page, setting, text)
    trace_page.click("#trace-causal-run")
    told = fault(trace_page, setting, words)
    told.wait_for()
    assert effect(trace_page) == before and trace_page.evaluate(TITLE) == shown
    at, control = told.bounding_box(), trace_page.locator(f"#setting-{setting}").bounding_box()
    assert 0 <= at["y"] - (control["y"] + control["height"]) < 40 and abs(at["x"] - control["x"]) < 20
    assert trace_page.locator(".fault p").count() == 1
    mended = {"subject": "France", "answer": "", "prompt": "The capital of France is", "samples": "5", "noise": "3"}
    type_into(trace_page, setting, mended[setting])
    run_and_wait(trace_page)
    assert trace_page.locator(".fault p").count() == 0


def test_a_model_that_is_nowhere_is_told_beside_the_list_of_models(trace_page):
    field = trace_page.locator("#trace-model input").first
    field.fill("/no/such/folder")
    field.press("Enter")
    trace_page.click("#trace-causal-run")
    fault(trace_page, "model", "there is no folder").wait_for()


def test_a_click_on_a_cell_tells_its_numbers(trace_page):
    at = trace_page.locator("#trace-causal-plot .nsewdrag").first.bounding_box()
    trace_page.mouse.click(at["x"] + at["width"] * 0.98, at["y"] + at["height"] * 0.96)
    last = effect(trace_page)[-1]
    trace_page.locator("#trace-causal-cell").filter(has_text=f"after layer {len(last) - 1}: {last[-1]:+.3f} ±").wait_for()
    trace_page.wait_for_function(f"{PLOT}.layout.shapes.some((shape) => shape.name === 'chosen')")


def test_cells_without_a_mouse(trace_page):
    trace_page.locator("#trace-causal-subject").focus()
    trace_page.keyboard.press("Enter")
    trace_page.locator("#trace-causal-cell").filter(has_text="of what the noise took").wait_for()
    trace_page.get_by_text("Choose a cell by its token and layer").click()
    trace_page.locator("#trace-causal-layer input").fill("99")
    trace_page.locator("#trace-causal-cell").filter(has_text="no such cell").wait_for()
    trace_page.locator("#trace-causal-layer input").fill("3")
    trace_page.locator("#trace-causal-cell").filter(has_text="after layer 3").wait_for()


def test_clicking_tokens_and_words_fills_the_form(trace_page, organism):
    type_into(trace_page, "prompt", "The capital of Iceland is")
    type_into(trace_page, "subject", "")
    trace_page.locator("#trace-tokens button").filter(has_text="Ice").first.wait_for()
    trace_page.locator("#trace-tokens button").filter(has_text="capital").first.click()
    trace_page.wait_for_function("document.querySelector('#setting-subject textarea, #setting-subject input').value === 'capital'")
    trace_page.locator("#trace-tokens button").filter(has_text="of").first.focus()
    trace_page.keyboard.press("Enter")
    trace_page.wait_for_function("document.querySelector('#setting-subject textarea, #setting-subject input').value === 'capital of'")
    trace_page.locator("#trace-tokens button[aria-pressed=true]").first.wait_for()
    word = trace_page.locator("#trace-answers button").filter(has_text="Reykjavik").first
    word.click()
    trace_page.wait_for_function("document.querySelector('#setting-answer textarea, #setting-answer input').value === 'Reykjavik'")


def test_a_known_fact_fills_the_form(trace_page, organism):
    trace_page.locator("#trace-facts input").click()
    trace_page.get_by_role("option", name="Iceland: capital").click()
    trace_page.wait_for_function("document.querySelector('#setting-subject textarea, #setting-subject input').value === 'Iceland'")
    assert box(trace_page, "answer").input_value() == "Reykjavik"
    trace_page.locator("#trace-tokens button").filter(has_text="Ice").first.wait_for()


def test_a_link_restores_the_page(trace_page, address, context, organism):
    unfold(trace_page)
    type_into(trace_page, "seed", "7")
    type_into(trace_page, "samples", "5")
    ask(trace_page, "The capital of Iceland is", "Iceland")
    run_and_wait(trace_page)
    trace_page.click("#trace-causal-subject")
    trace_page.locator("#trace-causal-cell .numbers").wait_for()
    trace_page.wait_for_function("location.search.includes('cell=')")
    trace_page.click("#trace-causal-link")
    trace_page.get_by_text("Link copied").wait_for()
    other = context.new_page()
    other.goto(trace_page.url)
    other.wait_for_function(FINISHED)
    other.locator("#trace-causal-cell .numbers").wait_for()
    assert "http" not in other.locator("#trace-causal-plot .cbfill").get_attribute("style"), "the colours go when the address changes"
    assert effect(other) == effect(trace_page) and other.evaluate(TITLE) == trace_page.evaluate(TITLE)
    assert other.inner_text("#trace-causal-cell") == trace_page.inner_text("#trace-causal-cell")
    unfold(other)
    asked = {"prompt": "The capital of Iceland is", "subject": "Iceland", "seed": "7", "samples": "5"}
    assert {setting: box(other, setting).input_value() for setting in asked} == asked


def test_a_link_with_nonsense_opens_the_page_all_the_same(page, address):
    open_trace(page, address, "?panel=trace&samples=many&colour=green&cell=x.y")
    assert "Paris" in page.evaluate(TITLE)


@pytest.mark.parametrize("kind, begins", [("png", b"\x89PNG"), ("svg", b"<svg"), ("csv", b"position,token"), ("json", b"{")])
def test_exports(trace_page, kind, begins):
    with trace_page.expect_download() as found:
        trace_page.click(f"#trace-causal-{kind}")
    data = found.value.path().read_bytes()
    assert data.startswith(begins) and found.value.suggested_filename == f"trace-causal.{kind}"
    if kind == "json":
        assert json.loads(data)["result"]["answer"] == "Paris"


def test_a_saved_run_opens_again_and_runs_to_the_same_figures(trace_page, tmp_path, organism):
    ask(trace_page, "The capital of Greece is", "Greece")
    run_and_wait(trace_page)
    with trace_page.expect_download() as found:
        trace_page.click("#trace-causal-json")
    found.value.save_as(tmp_path / "run.json")
    before = effect(trace_page)
    trace_page.reload()
    trace_page.goto(trace_page.url.partition("?")[0] + "?panel=trace")
    trace_page.wait_for_function(f"{PLOT} && {PLOT}.calcdata")
    trace_page.locator("#trace-causal-open input[type=file], input[type=file]").first.set_input_files(tmp_path / "run.json")
    trace_page.locator("#trace-causal-progress").filter(has_text="Press Run to repeat it").wait_for()
    assert effect(trace_page) == before and box(trace_page, "subject").input_value() == "Greece"
    run_and_wait(trace_page)
    assert effect(trace_page) == before
    (tmp_path / "other.json").write_text('{"format": 99}')
    trace_page.locator("#trace-causal-open input[type=file], input[type=file]").first.set_input_files(tmp_path / "other.json")
    fault(trace_page, "file", "this is no run of the lab").wait_for()
    assert effect(trace_page) == before
