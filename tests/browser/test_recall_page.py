"""The page of memories, as a visitor meets it: a pair is planted by a click, a memory reads, and every further experiment has a finished figure."""

from __future__ import annotations

import pytest

from panels import closer
from panels.runner import desk
from tests.browser.test_further import finished, opened

FURTHER = [name.replace(".", "-") for name in closer.names(desk("recall.watch"))]
TEXT = "document.querySelector('#setting-text textarea').value"


def arrived(page, address: str):
    page.set_default_timeout(90_000)
    page.goto(f"{address}/?panel=recall")
    page.wait_for_function("window.lab?.settled")
    page.wait_for_selector("#recall-watch-plot .main-svg")
    return page


@pytest.fixture
def recall_page(page, address):
    return arrived(page, address)


def test_a_pair_is_planted_by_a_click_and_read(recall_page):
    page = recall_page
    words = page.locator("#recall-watch-tokens button")
    pressed = page.locator("#recall-watch-tokens button[aria-pressed=true]").first.inner_text()
    words.nth(0).click()
    page.wait_for_function(f"{TEXT}.startsWith('{pressed} ')")
    page.locator("#recall-watch-run").click()
    finished(page, "recall-watch")
    assert words.nth(0).inner_text() == pressed and words.nth(0).get_attribute("aria-pressed") == "true"


def test_every_further_experiment_opens_with_a_finished_figure_on_a_phone_too(browser, address):
    page = arrived(browser.new_page(viewport={"width": 390, "height": 844}), address)
    for key in FURTHER:
        part = opened(page, key)
        assert "What it does not show" in part.inner_text() and ("arXiv" in part.inner_text() or "doi" in part.inner_text())
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, key
        page.locator(f"#{key}-fold > button").click()
    page.close()
