"""The Attention page, as a visitor meets it: the map, marks by clicks, a cell in words, a head chosen, and the further experiments."""

from __future__ import annotations

import pytest

from panels import closer
from panels.runner import desk
from tests.browser.test_further import opened

FURTHER = [name.replace(".", "-") for name in closer.names(desk("attention.map"))]
PLOT = "document.querySelector('#attention-map-plot .js-plotly-plot')"
TOKEN = "#attention-tokens button:has-text('{}')"


def arrived(page, address: str):
    page.set_default_timeout(60_000)
    page.goto(f"{address}/?panel=attention")
    page.wait_for_function("window.lab?.settled")
    page.wait_for_selector("#attention-map-plot .main-svg")
    return page


@pytest.fixture
def attention_page(page, address):
    return arrived(page, address)


def said(page, words: str) -> None:
    page.locator("#attention-map-cell").filter(has_text=words).wait_for()


def test_segments_are_marked_by_clicks_and_counted(attention_page):
    page = attention_page
    prompt = page.locator("textarea").first
    page.locator(TOKEN.format("Fran")).click()
    page.locator(TOKEN.format("Fran · A")).wait_for()
    page.locator(TOKEN.format("ce")).last.click()
    page.wait_for_function("document.querySelector('textarea').value === 'The capital of [[A: France]] is'")
    page.locator("#attention-map-run").click()
    page.locator("#attention-map-progress").filter(has_text="Done in").wait_for()
    page.wait_for_function(f"{PLOT}.layout.title.text.includes('■</span> A')")
    page.locator(TOKEN.format("Fran · A")).click()
    page.wait_for_function("document.querySelector('textarea').value === 'The capital of France is'")
    assert prompt.input_value() == "The capital of France is"


def test_a_cell_stays_in_words_and_a_head_is_chosen_by_a_click(attention_page):
    page = attention_page
    plot = page.locator("#attention-map-plot .nsewdrag")
    plot.first.click()
    said(page, "of what")
    page.mouse.move(5, 5)
    said(page, "of what")
    plot.nth(1).click()
    said(page, "is chosen")
    page.locator("#attention-map-run").click()
    page.locator("#attention-map-progress").filter(has_text="Done in").wait_for()
    page.wait_for_function(f"/head \\d/.test({PLOT}.layout.title.text)")


def test_every_further_experiment_opens_with_a_finished_figure_on_a_phone_too(browser, address):
    page = arrived(browser.new_page(viewport={"width": 390, "height": 844}), address)
    for key in FURTHER:
        part = opened(page, key)
        assert "What it does not show" in part.inner_text() and "arXiv" in part.inner_text()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, key
        page.locator(f"#{key}-fold > button").click()
    page.close()
