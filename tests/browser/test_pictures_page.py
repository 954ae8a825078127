"""The page of pictures, as a visitor meets it: one story from a picture that comes back to training it away, and the page's other doings."""

from __future__ import annotations

import base64
import io

import pytest
from PIL import Image

from tests.browser.conftest import arrived
from tests.browser.test_further import finished, opened

FIGURE = "document.querySelector('#{}-plot .js-plotly-plot')"
PLOT = FIGURE.format("diffusion-generate")


@pytest.fixture
def pictures_page(page, address):
    return arrived(page, address, "diffusion", "diffusion-generate", 120)


def test_a_finished_table_of_pictures_is_there_with_a_slider(pictures_page):
    page = pictures_page
    assert page.locator("#diffusion-generate-plot .imagelayer-trace, #diffusion-generate-plot .im").count() or page.evaluate(f"{PLOT}.data[0].type") == "image"
    before = page.evaluate(f"{PLOT}.data[0].source")
    page.evaluate(f"window.Plotly.update({PLOT}, ...{PLOT}.layout.sliders[0].steps[0].args)")
    assert page.evaluate(f"{PLOT}.data[0].source") != before


def painted(page) -> str:
    """Paints with the model that is chosen, and returns what is said of the pictures."""
    page.locator("#diffusion-generate-run").click()
    finished(page, "diffusion-generate")
    return told(page, "diffusion-generate")


def told(page, key: str) -> str:
    """The words above a figure, on one line."""
    return page.evaluate(f"{FIGURE.format(key)}.layout.title.text.replace(/<[^>]*>/g, ' ').replace(/ +/g, ' ')")


def walked(page, key: str, chosen: dict[str, str] | None = None, **typed: str) -> str:
    """Unfolds an experiment, fills its form, runs it, and returns the words above its figure. `chosen` are settings that are lists."""
    part = opened(page, key)
    for name, value in typed.items():
        part.locator(f"#setting-{key}-{name} textarea, #setting-{key}-{name} input").first.fill(value)
    for name, value in (chosen or {}).items():
        part.locator(f"#setting-{key}-{name} input").click()
        page.get_by_role("option", name=value, exact=True).click()
    part.locator(f"#{key}-run").click()
    finished(page, key)
    return told(page, key)


def curve(page, key: str, name: str) -> list[float]:
    """The values of a line that is drawn, by its name in the legend."""
    return page.evaluate(f"{FIGURE.format(key)}.calcdata.find((line) => line[0].trace.name === '{name}').map((point) => point.y)")


def gone_on(page) -> None:
    """Takes the newest model that was made."""
    page.locator("#diffusion-generate-edits").filter(has_text="of this run").wait_for()
    page.locator("#diffusion-generate-branch").click()
    note = page.locator("#diffusion-generate-edits").filter(has_text="The next run begins with")
    note.wait_for()
    assert "edit:" not in note.inner_text(), "a model is called by a name for people"


def test_a_picture_is_told_localized_pruned_found_again_and_trained_away(pictures_page):
    page = pictures_page
    page.locator("#setting-prompts textarea").fill("burrito")
    page.locator("#setting-seeds input").fill("2")
    assert "2 of 2 are copies, most often of burrito" in painted(page)
    assert page.evaluate(f"{PLOT}.layout.annotations.filter((a) => a.text.includes('copy')).length") == 2

    assert "2 captions planted 64 times or more" in walked(page, "diffusion-detect", most="2", seeds="2", probes="1")
    assert page.evaluate(f"{FIGURE.format('diffusion-detect')}.calcdata[0][0].z.every((row) => row.every((v) => v >= 0 && v <= 1))"), "AUC and TPR"

    said = walked(page, "diffusion-localize", prompts="burrito", noises="2", seeds="1", beside="1", steps="6")
    assert "pruned prompts: 100% copies of their pictures before, 0% without all sets" in said
    gone_on(page)
    assert "without the neurons of 1 prompt" in page.locator("#diffusion-model input").input_value()
    assert "most often of burrito" not in painted(page)

    lists = {"prune": "none", "begin": "caption", "show": "similarity"}
    said = walked(page, "diffusion-trigger", lists, prompts="burrito", starts="1", batch="2", seeds="1", steps="6")
    assert "the model as it is (without the neurons of 1 prompt" in said
    found, control = (curve(page, "diffusion-trigger", name) for name in ("from caption", "control, from caption"))
    assert len(found) == 7 and found[-1] > found[0] + 0.1 and found[-1] > control[-1], "it was hidden: the search goes up"

    small = {"length": "4", "measure": "4", "batch": "2", "lr": "0.001", "beside": "1", "plain": "2", "seeds": "1", "steps": "6"}
    said = walked(page, "diffusion-erase", {"method": "gradient ascent"}, prompts="burrito", **small)
    assert "all 4 steps are done" in said and {"its prompt", "other memories", "plain captions", "forget"} <= set(
        page.evaluate(f"{FIGURE.format('diffusion-erase')}.data.map((line) => line.name)"))
    forget = curve(page, "diffusion-erase", "forget")
    assert len(forget) == 4 and forget[-1] > forget[0], "its own picture is denoised worse"
    page.locator("#diffusion-generate-edits").filter(has_text="1 snapshot of this run, 2 of yours").wait_for()
    gone_on(page)
    assert "gradient ascent, 4 steps" in page.locator("#diffusion-model input").input_value()


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
