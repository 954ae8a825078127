"""The Attention page, as a visitor meets it: the map, marks by clicks, a cell in words, a head chosen, and the further experiments."""

from __future__ import annotations

import pytest

from tests.browser.conftest import arrived

PLOT = "document.querySelector('#attention-map-plot .js-plotly-plot')"
TOKEN = "#attention-tokens button:has-text('{}')"


@pytest.fixture
def attention_page(page, address):
    return arrived(page, address, "attention", "attention-map", 60)


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
