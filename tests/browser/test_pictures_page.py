"""The page of pictures, as a visitor meets it: painted, pruned, painted again with the pruned model, and searched for what brings the picture back."""

from __future__ import annotations

import base64
import io

import pytest
from PIL import Image

from tests.browser.conftest import arrived
from tests.browser.test_further import finished, opened

PLOT = "document.querySelector('#diffusion-generate-plot .js-plotly-plot')"


@pytest.fixture
def pictures_page(page, address):
    return arrived(page, address, "diffusion", "diffusion-generate", 120)


def test_a_finished_table_of_pictures_is_there_with_a_slider(pictures_page):
    page = pictures_page
    assert page.locator("#diffusion-generate-plot .imagelayer-trace, #diffusion-generate-plot .im").count() or page.evaluate(f"{PLOT}.data[0].type") == "image"
    before = page.evaluate(f"{PLOT}.data[0].source")
    page.evaluate(f"window.Plotly.update({PLOT}, ...{PLOT}.layout.sliders[0].steps[0].args)")
    assert page.evaluate(f"{PLOT}.data[0].source") != before


def test_painted_pruned_and_painted_again(pictures_page):
    page = pictures_page
    page.locator("#setting-prompts textarea").fill("burrito")
    page.locator("#setting-seeds input").fill("2")
    page.locator("#diffusion-generate-run").click()
    finished(page, "diffusion-generate")
    page.wait_for_function(f"{PLOT}.layout.annotations.some((a) => a.text.includes('copy'))")
    part = opened(page, "diffusion-localize")
    part.locator("#setting-diffusion-localize-prompts textarea").fill("burrito")
    for name, value in (("noises", "4"), ("seeds", "1"), ("beside", "1"), ("steps", "8")):
        part.locator(f"#setting-diffusion-localize-{name} input").fill(value)
    part.locator("#diffusion-localize-run").click()
    finished(page, "diffusion-localize")
    page.locator("#diffusion-generate-edits").filter(has_text="snapshots of this run").wait_for()
    page.locator("#diffusion-generate-branch").click()
    page.locator("#diffusion-generate-edits").filter(has_text="The next run begins with").wait_for()
    page.locator("#diffusion-generate-run").click()
    finished(page, "diffusion-generate")


def test_a_picture_of_ones_own_is_compared_and_a_broken_one_is_refused(pictures_page):
    page = pictures_page
    page.get_by_role("button", name="Compare with a picture of your own").click()
    file = io.BytesIO()
    Image.new("RGB", (40, 40), "red").save(file, "PNG")

    def choose(name: str, data: bytes) -> None:
        with page.expect_file_chooser() as chooser:
            page.click("#diffusion-generate-picture-upload")
        chooser.value.set_files({"name": name, "mimeType": "image/png", "buffer": data})

    choose("red.png", file.getvalue())
    page.wait_for_function("document.querySelector('#setting-picture textarea').value.startsWith('data:image/png;base64,')")
    assert base64.b64decode(page.locator("#setting-picture textarea").input_value().partition(",")[2])[:4] == b"\x89PNG"
    choose("broken.png", b"no picture at all")
    page.locator(".fault-picture p").filter(has_text="cannot be read").wait_for()
