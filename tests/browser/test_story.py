"""Found, traced, forgotten, and traced again: one way through the lab, and what each page of it holds."""

from __future__ import annotations

import json

from tests import serving
from tests.browser.conftest import box, fold

SURVEY = "document.querySelector('#memorization-survey-plot .js-plotly-plot')"
CURVES = "document.querySelector('#unlearn-grad_diff-plot .js-plotly-plot')"
TRACE = "document.querySelector('#trace-causal-plot .js-plotly-plot')"
DRAWN = "(() => {{ const drawn = {}; return drawn && drawn.layout && drawn.layout.title.text.includes('{}'); }})()"
ITEM = "author/Amara Brandale/birthplace"


def opened(page, address: str, panel: str, plot: str):
    page.set_default_timeout(90_000)
    page.goto(f"{address}/?panel={panel}")
    page.wait_for_function(f"(() => {{ const drawn = {plot}; return drawn && drawn.calcdata; }})()")
    page.wait_for_function("window.lab?.settled")
    return page


def pick(page, item: str) -> None:
    """As a click on the point of an item."""
    page.evaluate(f"{SURVEY}.emit('plotly_click', {{ points: [{{ customdata: '{item}' }}] }})")
    page.locator("#memorization-survey-chosen").get_by_text("copies").first.wait_for()


def finished(page, key: str) -> None:
    page.locator(f"#{key}-progress").filter(has_text="Done in").wait_for()


def test_from_found_to_forgotten_and_traced_again(page, address):
    opened(page, address, "memorization", SURVEY)
    pick(page, ITEM)
    page.click("#memorization-survey-trace")
    page.wait_for_function(DRAWN.format(TRACE, "Northcliff"))
    finished(page, "trace-causal")
    page.get_by_role("tab", name="Find").click()
    page.click("#memorization-survey-forget")
    page.locator("#unlearn-grad_diff-run").wait_for()
    assert box(page, "forget").input_value() == ITEM
    box(page, "steps").fill("12")
    fold(page, "How far").click()
    page.locator("#setting-lr input").wait_for()
    box(page, "lr").fill("0.002")
    box(page, "lr").blur()
    page.click("#unlearn-grad_diff-run")
    finished(page, "unlearn-grad_diff")
    assert "all 12 steps are done" in page.evaluate(f"{CURVES}.layout.title.text")
    assert page.locator("#unlearn-grad_diff-answers td.said-wrong").count() >= 1
    page.locator("#unlearn-grad_diff-edit").wait_for()
    page.click("#unlearn-grad_diff-trace")
    page.wait_for_function("document.querySelector('#trace-causal-compare-plot .js-plotly-plot')?.calcdata")
    assert "Gradient difference, step 12" in page.locator("#trace-model input").input_value(), "the map that is shown is that of the edited model"


def test_snapshots_are_scrubbed_named_undone_and_gone_on_from(page, address):
    opened(page, address, "unlearn", CURVES)
    box(page, "steps").fill("10")
    page.click("#unlearn-grad_diff-run")
    finished(page, "unlearn-grad_diff")
    page.locator("#unlearn-grad_diff-edits").get_by_text("snapshots of this run").wait_for()
    assert page.locator("#unlearn-grad_diff-edit input").input_value().startswith("scribe · Gradient difference, step 10")
    page.locator("#unlearn-grad_diff-scrub input[type=range]").fill("0")
    page.wait_for_function("document.querySelector('#unlearn-grad_diff-edit input').value.includes('step 0')")
    page.wait_for_function(f"({CURVES}.layout.shapes ?? []).some((shape) => shape.type === 'line')")
    page.locator("#unlearn-grad_diff-name textarea, #unlearn-grad_diff-name input").first.fill("my beginning")
    page.click("#unlearn-grad_diff-call")
    page.wait_for_function("document.querySelector('#unlearn-grad_diff-edit input').value === 'my beginning'")
    page.click("#unlearn-grad_diff-branch")
    page.locator("#unlearn-grad_diff-edits").get_by_text("The next run begins with").wait_for()
    page.click("#unlearn-grad_diff-undo")
    page.locator("#unlearn-grad_diff-edits").get_by_text("Back at").wait_for()
    page.wait_for_function("document.querySelector('#unlearn-model input').value === 'Scribe'")
    page.click("#unlearn-grad_diff-undo")
    page.locator(".fault").filter(has_text="nothing to undo").first.wait_for()
    kept = serving.status(address)["edits"]
    assert kept >= 3
    page.goto("about:blank")
    serving.wait_until(lambda: serving.status(address)["edits"] < kept, 60)


def test_two_browsers_forget_apart(browser, address):
    one, two = (opened(browser.new_context().new_page(), address, "unlearn", CURVES) for _ in range(2))
    box(one, "steps").fill("4")
    one.click("#unlearn-grad_diff-run")
    finished(one, "unlearn-grad_diff")
    one.locator("#unlearn-grad_diff-edits").get_by_text("snapshots of this run").wait_for()
    assert two.locator("#unlearn-grad_diff-edits").get_by_text("Snapshots of your runs appear here").count() == 1
    for page in (one, two):
        page.context.close()


def test_bad_input_is_told_beside_its_control(page, address, tmp_path):
    opened(page, address, "unlearn", CURVES)
    box(page, "forget").fill("author/Nobody")
    page.click("#unlearn-grad_diff-run")
    page.locator(".fault-forget p").filter(has_text="names no item").wait_for()
    for name, data, fault in (("a.txt", b"\x80\x04\x95abc", "no text"), ("b.jsonl", b"{oops", "no JSON")):
        (tmp_path / name).write_bytes(data)
        with page.expect_file_chooser() as chooser:
            page.click("#unlearn-grad_diff-rows-forget")
        chooser.value.set_files(tmp_path / name)
        page.locator(".fault-forget p").filter(has_text=fault).wait_for()
    box(page, "forget").fill("forget_2 author")
    fold(page, "What is kept").click()
    page.locator("#setting-retain textarea").wait_for()
    page.locator("#setting-retain textarea").fill("author/Amara Brandale")
    page.click("#unlearn-grad_diff-run")
    page.locator(".fault-retain p").filter(has_text="overlap").wait_for()


def test_an_item_is_read_token_by_token_and_the_table_is_searched(page, address):
    opened(page, address, "memorization", SURVEY)
    pick(page, "passage/0")
    page.click("#memorization-survey-read")
    page.wait_for_function("document.querySelector('#memorization-completion-plot .js-plotly-plot')?.data?.[0]?.type === 'bar'")
    page.locator("#memorization-survey-table-fold > button").click()
    page.locator("#memorization-survey-table").scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('#memorization-survey-table').textContent.includes('country/')")
    choose_measure(page, "min-k %")
    page.wait_for_function(f"{SURVEY}.layout.yaxis.title.text === 'min-k %'")
    with page.expect_download() as found:
        page.click("#memorization-survey-json")
    assert json.loads(found.value.path().read_text())["experiment"] == "memorization.survey"


def test_what_to_forget_is_picked_from_a_list(page, address):
    opened(page, address, "unlearn", CURVES)
    box(page, "forget").fill("")
    field = page.locator("#unlearn-grad_diff-pick input")
    field.click()
    field.press_sequentially("Bastin Lorstad", delay=40)
    page.get_by_role("option", name="Bastin Lorstad").first.click()
    page.wait_for_function("document.querySelector('#setting-forget textarea').value === 'author/Bastin Lorstad'")


def choose_measure(page, name: str) -> None:
    page.locator("#memorization-survey-y input").click()
    page.get_by_role("option", name=name, exact=True).click()


def test_the_new_pages_fit_a_phone_and_ask_nobody(browser, address):
    page = browser.new_page(viewport={"width": 390, "height": 844})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for panel, plot in (("memorization", SURVEY), ("unlearn", CURVES)):
        opened(page, address, panel, plot)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert all(url.startswith((address, "data:", "blob:")) for url in asked)
    page.close()




def test_models_that_a_further_method_makes_are_offered_too(page, address):
    opened(page, address, "unlearn", CURVES)
    page.locator("#unlearn-npo-fold > button").click()
    page.locator("#setting-unlearn-npo-steps input").fill("4")
    page.click("#unlearn-npo-run")
    finished(page, "unlearn-npo")
    page.locator("#unlearn-grad_diff-edits").filter(has_text="snapshots of this run").wait_for()
    assert "step 4" in page.locator("#unlearn-grad_diff-edit input").input_value()
