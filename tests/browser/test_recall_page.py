"""The page of memories, as a visitor meets it: a pair is planted by a click, and a memory reads."""

from __future__ import annotations

import pytest

from tests.browser.conftest import arrived
from tests.browser.test_further import finished

TEXT = "document.querySelector('#setting-text textarea').value"


@pytest.fixture
def recall_page(page, address):
    return arrived(page, address, "recall", "recall-watch")


def test_a_pair_is_planted_by_a_click_and_read(recall_page):
    page = recall_page
    words = page.locator("#recall-watch-tokens button")
    pressed = page.locator("#recall-watch-tokens button[aria-pressed=true]").first.inner_text()
    words.nth(0).click()
    page.wait_for_function(f"{TEXT}.startsWith('{pressed} ')")
    page.locator("#recall-watch-run").click()
    finished(page, "recall-watch")
    assert words.nth(0).inner_text() == pressed and words.nth(0).get_attribute("aria-pressed") == "true"
