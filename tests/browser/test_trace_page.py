"""The Trace page as a visitor meets it."""

from __future__ import annotations

import json
import time

import pytest

from tests.browser.conftest import run_and_wait, wait_until

PLOT = "document.querySelector('#trace-causal-plot .js-plotly-plot')"
TITLE = f"{PLOT}.layout.title.text"


def type_into(page, setting: str, text: str) -> None:
    field = page.locator(f"#setting-{setting} textarea, #setting-{setting} input").first
    field.fill(text)
    field.blur()


def effect(page):
    return page.evaluate(f"JSON.stringify(Array.from({PLOT}.data[0].z, row => Array.from(row)))")


def test_on_arrival_a_start_page_leads_to_a_finished_map(page, address):
    page.goto(address)
    page.get_by_text("See what a neural network memorized").wait_for()
    page.click("#start")
    page.wait_for_function(f"{PLOT} && {TITLE}.includes('Paris')")
    assert "null" not in effect(page) and "done" not in page.inner_text("#trace-causal-progress")


def test_a_run_streams_its_first_row_at_once(trace_page):
    run_and_wait(trace_page)  # the first run of a server may still bring in its libraries
    type_into(trace_page, "prompt", "The capital of Japan is")
    type_into(trace_page, "subject", "Japan")
    started = time.monotonic()
    trace_page.click("#trace-causal-run")
    trace_page.wait_for_function(f"{TITLE}.includes('Tokyo') && Array.from({PLOT}.data[0].z).some(row => !Number.isNaN(Number(row[0])) && row[0] !== null)")
    first = time.monotonic() - started
    trace_page.wait_for_function("document.querySelector('#trace-causal-progress').innerText.includes('done in')")
    print(f"first row after {first:.2f} s")
    assert first < 3, "the first row took more than three seconds, on a machine however slow"


def test_nothing_is_asked_of_anyone_else(page, address):
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{address}/?panel=trace")
    page.wait_for_function(f"{PLOT} != null")
    run_and_wait(page)
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []


def test_two_visitors_do_not_see_each_other(browser, address):
    pages = [browser.new_context().new_page() for _ in range(2)]
    for page, country in zip(pages, ("Japan", "Italy"), strict=True):
        page.set_default_timeout(60_000)
        page.goto(f"{address}/?panel=trace")
        page.wait_for_function(f"{PLOT} != null")
        type_into(page, "prompt", f"The capital of {country} is")
        type_into(page, "subject", country)
    for page in pages:
        page.click("#trace-causal-run")
    for page, capital in zip(pages, ("Tokyo", "Rome"), strict=True):
        page.wait_for_function("document.querySelector('#trace-causal-progress').innerText.includes('done in')")
        assert f"P({capital})" in page.evaluate(TITLE)
    for page in pages:
        page.context.close()


def test_stop_leaves_no_work_running(trace_page, address):
    trace_page.get_by_text("Noise and samples").click()
    type_into(trace_page, "samples", "100")
    type_into(trace_page, "prompt", "On a map, the star that marks the capital of France stands beside")
    trace_page.click("#trace-causal-run")
    trace_page.wait_for_function("document.querySelector('#trace-causal-progress').innerText.includes('token')")
    trace_page.click("#trace-causal-stop")
    trace_page.get_by_text("stopped; what was computed stays").wait_for()
    wait_until(lambda: not busy(trace_page, address), 10)
    before = effect(trace_page)
    time.sleep(1)
    assert effect(trace_page) == before and "null" in before.lower() + "null" * ("NaN" in before)


def busy(page, address) -> bool:
    """What the server itself says of its devices."""
    return bool(page.evaluate("""async (address) => {
        const start = await fetch(`${address}/gradio_api/call/busy`, {method: 'POST', headers: {'Content-Type': 'application/json'}, body: '{"data": []}'});
        const { event_id } = await start.json();
        const text = await (await fetch(`${address}/gradio_api/call/busy/${event_id}`)).text();
        return text.includes('true');
    }""", address))


@pytest.mark.parametrize("setting, text, words", [
    ("subject", "Atlantis", "does not stand in the prompt"), ("answer", "zeppelin", "nothing to trace"), ("prompt", "", "prompt is empty")])
def test_bad_input_is_told_beside_its_control(trace_page, setting, text, words):
    before = effect(trace_page)
    type_into(trace_page, setting, text)
    trace_page.click("#trace-causal-run")
    fault = trace_page.locator(f".fault-{setting}").filter(has_text=words).first
    fault.wait_for()
    assert effect(trace_page) == before
    box, control = fault.bounding_box(), trace_page.locator(f"#setting-{setting}").bounding_box()
    assert 0 <= box["y"] - (control["y"] + control["height"]) < 40


def test_a_value_out_of_its_bounds(trace_page):
    trace_page.get_by_text("Noise and samples").click()
    type_into(trace_page, "samples", "1")
    trace_page.click("#trace-causal-run")
    trace_page.locator(".fault-samples").filter(has_text="2 to 100").first.wait_for()


def test_a_click_on_a_cell_tells_its_numbers(trace_page):
    box = trace_page.locator("#trace-causal-plot .js-plotly-plot .plot").first.bounding_box()
    trace_page.mouse.click(box["x"] + box["width"] * 0.95, box["y"] + box["height"] * 0.95)
    trace_page.locator("#trace-causal-cell").filter(has_text="after layer 7").wait_for()
    assert "±" in trace_page.inner_text("#trace-causal-cell")


def test_clicking_tokens_and_words_fills_the_form(trace_page):
    type_into(trace_page, "prompt", "The capital of Japan is")
    trace_page.locator("#trace-tokens button").filter(has_text="of").first.wait_for()
    type_into(trace_page, "subject", "")
    trace_page.locator("#trace-tokens button").filter(has_text="capital").first.click()
    trace_page.wait_for_function("document.querySelector('#setting-subject textarea, #setting-subject input').value === 'capital'")
    trace_page.locator("#trace-tokens button").filter(has_text="of").first.focus()
    trace_page.keyboard.press("Enter")
    trace_page.wait_for_function("document.querySelector('#setting-subject textarea, #setting-subject input').value === 'capital of'")
    trace_page.locator("#trace-answers button").first.click()
    trace_page.wait_for_function("document.querySelector('#setting-answer textarea, #setting-answer input').value === 'Tokyo'")


def test_a_link_restores_the_page(trace_page, page, address, context):
    type_into(trace_page, "prompt", "The capital of Peru is")
    type_into(trace_page, "subject", "Peru")
    run_and_wait(trace_page)
    trace_page.wait_for_function("location.search.includes('Peru')")
    before, link = effect(trace_page), trace_page.url
    other = context.new_page()
    other.set_default_timeout(60_000)
    other.goto(link)
    other.wait_for_function("(document.querySelector('#trace-causal-progress')?.innerText ?? '').includes('done in')")
    assert effect(other) == before and "P(Lima)" in other.evaluate(TITLE)


@pytest.mark.parametrize("kind, begins", [("png", b"\x89PNG"), ("svg", b"<svg"), ("csv", b"position,token"), ("json", b"{")])
def test_exports(trace_page, kind, begins):
    with trace_page.expect_download() as found:
        trace_page.click(f"#trace-causal-{kind}")
    data = open(found.value.path(), "rb").read()
    assert data.startswith(begins) and found.value.suggested_filename.endswith(kind)
    if kind == "json":
        assert json.loads(data)["result"]["answer"] == "Paris"


@pytest.mark.parametrize("panel", ["", "?panel=trace"])
@pytest.mark.parametrize("width, theme", [(390, "light"), (390, "dark"), (1280, "light"), (1280, "dark")])
def test_it_fits_a_phone_and_a_screen_by_day_and_night(browser, address, tmp_path, panel, width, theme):
    page = browser.new_page(viewport={"width": width, "height": 844})
    page.goto(f"{address}/{panel}{'&' if panel else '?'}__theme={theme}")
    page.wait_for_selector("#trace-causal-plot .js-plotly-plot" if panel else "#start", timeout=60_000)
    page.wait_for_timeout(800)
    page.screenshot(path=tmp_path / "page.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ink, paper = page.evaluate("""() => { const style = getComputedStyle(document.querySelector('.gradio-container'));
        const sum = (c) => c.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + Number(b), 0);
        return [sum(style.color), sum(getComputedStyle(document.body).backgroundColor)]; }""")
    assert (ink < paper) == (theme == "light")
    page.close()
