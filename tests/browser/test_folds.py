"""Every further experiment of the newer pages, unfolded on a phone: a finished figure, its words and its paper, and nothing that is too wide."""

from __future__ import annotations

import pytest

from panels import closer
from panels.runner import desk
from tests.browser.conftest import arrived
from tests.browser.test_further import opened

PAGES = {"attention": "attention.map", "diffusion": "diffusion.generate", "recall": "recall.watch"}


@pytest.mark.parametrize("panel", PAGES)
def test_every_further_experiment_opens_with_a_finished_figure(browser, address, panel):
    first = desk(PAGES[panel])
    page = arrived(browser.new_page(viewport={"width": 390, "height": 844}), address, panel, first.key)
    for key in (name.replace(".", "-") for name in closer.names(first)):
        part = opened(page, key)
        said = part.inner_text()
        assert "What it does not show" in said and ("arXiv" in said or "doi" in said), key
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, key
        page.locator(f"#{key}-fold > button").click()
    page.close()
