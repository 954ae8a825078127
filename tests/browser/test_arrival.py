"""What a visitor finds, and how it looks."""

from __future__ import annotations

import pytest

from tests import serving
from tests.browser.conftest import PLOT, TITLE, effect, open_trace, run_and_wait


def test_on_arrival_the_opening_page_leads_to_a_finished_map(page, address):
    page.set_default_timeout(90_000)
    page.goto(address)
    page.get_by_role("heading", name="See what a neural network memorized").wait_for()
    assert page.locator(".thumbnail td").count() > 20
    page.click("#start")
    page.wait_for_function(f"{PLOT} && {PLOT}.calcdata && {TITLE}.includes('Paris')")
    assert not any(value is None for row in effect(page) for value in row)
    page.get_by_text("Look at the map.").wait_for()
    assert serving.status(address)["busy"] is False and "Done in" not in page.inner_text("#trace-causal-progress")
    page.wait_for_function("location.search.includes('panel=trace')")


def test_the_example_can_be_explored_before_anything_is_loaded(trace_page):
    assert trace_page.locator("#trace-tokens button[aria-pressed=true]").count() >= 1
    trace_page.click("#trace-causal-last")
    trace_page.locator("#trace-causal-cell").filter(has_text="It is the last token").wait_for()


def test_nothing_is_asked_of_anyone_else(page, asked, address):
    page.goto(address)
    page.click("#start")
    open_trace(page, address)
    run_and_wait(page)
    assert len(asked) > 10
    assert [url for url in asked if not url.startswith((address, "data:", "blob:"))] == []


@pytest.mark.parametrize("panel", ["home", "trace"])
@pytest.mark.parametrize("width, theme", [(390, "light"), (390, "dark"), (1366, "light"), (1366, "dark")])
def test_it_fits_a_phone_and_a_screen_by_day_and_night(browser, address, tmp_path, panel, width, theme):
    page = browser.new_page(viewport={"width": width, "height": 844})
    page.set_default_timeout(90_000)
    page.goto(f"{address}/?panel={panel}&__theme={theme}")
    page.wait_for_selector("#trace-causal-plot .js-plotly-plot" if panel == "trace" else "#start")
    page.wait_for_timeout(1000)
    page.screenshot(path=tmp_path / f"{panel}-{width}-{theme}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    ink, paper = page.evaluate("""() => {
        const sum = (c) => c.match(/[\\d.]+/g).slice(0, 3).reduce((a, b) => a + Number(b), 0);
        return [sum(getComputedStyle(document.querySelector('.page')).color), sum(getComputedStyle(document.body).backgroundColor)]; }""")
    assert abs(ink - paper) > 300 and (ink < paper) == (theme == "light")
    page.close()


def test_every_control_has_a_name_and_can_be_reached_by_keyboard(trace_page):
    nameless = trace_page.evaluate("""() => [...document.querySelectorAll('button, input, textarea')]
        .filter((e) => e.offsetParent && !e.disabled)
        .filter((e) => !(e.textContent.trim() || e.getAttribute('aria-label') || e.title || e.labels?.length || e.closest('label')))
        .map((e) => e.outerHTML.slice(0, 120))""")
    assert nameless == []
    skipped = trace_page.evaluate("""() => [...document.querySelectorAll('button')]
        .filter((e) => e.tabIndex < 0 && e.role !== 'tab' && e.offsetParent && !e.closest('[aria-hidden=true]')).map((e) => e.outerHTML)""")
    assert skipped == []


def test_a_page_says_when_the_server_is_away_and_when_it_was_restarted(page, tmp_path):
    port = serving.free_port()
    page.set_default_timeout(90_000)
    with serving.app(port, tmp_path / "log.txt") as url:
        open_trace(page, url)
        page.wait_for_function("window.lab?.born")
    page.locator("#notice").filter(has_text="does not answer").wait_for()
    with serving.app(port, tmp_path / "log.txt"):
        page.locator("#notice").filter(has_text="was restarted").wait_for()
        page.get_by_role("button", name="Open this page again").click()
        page.wait_for_function(f"{PLOT} != null")
        run_and_wait(page)
