"""The app in a process of its own, and Chromium to drive it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from models import catalog
from tests import serving

HERE = Path(__file__).parent
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]
CHROMIUM = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)
MEASURED = pytest.StashKey[list[str]]()


def pytest_collection_modifyitems(items):
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.browser)


def pytest_terminal_summary(terminalreporter, config):
    for said in config.stash.get(MEASURED, []):
        terminalreporter.write_line(said)


@pytest.fixture
def measured(pytestconfig):
    """Takes a sentence with a figure that stands below the results."""
    return pytestconfig.stash.setdefault(MEASURED, []).append


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args):
    if CHROMIUM is None:
        message = "no Chromium on this machine: install chromium, and the browser tests run"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    return {**browser_type_launch_args, "executable_path": CHROMIUM, "args": QUIET}


@pytest.fixture(scope="session")
def organism() -> str:
    """The model that the pages are tried on."""
    assert any(entry.name == "scribe" for entry in catalog.entries()), "scribe is missing: python -m models.organisms grow scribe"
    return "scribe"


@pytest.fixture(scope="session")
def address(tmp_path_factory) -> Iterator[str]:
    """Where the app answers."""
    with serving.app(serving.free_port(), tmp_path_factory.mktemp("server") / "log.txt") as url:
        yield url


@pytest.fixture
def context(context):
    context.set_default_timeout(90_000)
    return context


@pytest.fixture
def asked(page) -> list[str]:
    """The address of every request that the page makes."""
    found: list[str] = []
    page.on("request", lambda request: found.append(request.url))
    return found


@pytest.fixture
def trace_page(page, address):
    """The Trace page, with its example drawn."""
    return open_trace(page, address)


def open_trace(page, address: str, query: str = "?panel=trace"):
    page.set_default_timeout(90_000)
    page.goto(f"{address}/{query}")
    page.wait_for_function(f"(() => {{ const drawn = {PLOT}; return drawn && drawn.calcdata && drawn.querySelector('.heatmaplayer'); }})()")
    page.wait_for_function("window.lab?.settled")
    return page


PLOT = "document.querySelector('#trace-causal-plot .js-plotly-plot')"
TITLE = f"{PLOT}.layout.title.text"
FINISHED = "(document.querySelector('#trace-causal-progress')?.innerText ?? '').includes('Done in')"


def type_into(page, setting: str, text: str) -> None:
    field = box(page, setting)
    field.fill(text)
    field.blur()


def box(page, setting: str):
    return page.locator(f"#setting-{setting} textarea, #setting-{setting} input").first


def unfold(page) -> None:
    """Opens what is folded away over seed, samples and noise; its controls are made only then, and take a moment."""
    fold(page, "How it is corrupted").click()
    box(page, "samples").wait_for()
    page.wait_for_timeout(500)


def fold(page, title: str):
    """The button that opens and closes what is folded away under `title`."""
    return page.locator("button.label-wrap").filter(has_text=title).first


def choose(page, setting: str, option: str) -> None:
    """Takes `option` from the list of a setting."""
    page.locator(f"#setting-{setting} input").click()
    page.get_by_role("option", name=option, exact=True).click()


def ask(page, prompt: str, subject: str, answer: str = "") -> None:
    for setting, text in {"prompt": prompt, "subject": subject, "answer": answer}.items():
        type_into(page, setting, text)


def run_and_wait(page) -> None:
    page.click("#trace-causal-run")
    page.wait_for_function(f"!{FINISHED}")
    page.wait_for_function(FINISHED)


def effect(page) -> list[list[float | None]]:
    """The map as it is drawn; None where a cell is blank."""
    return page.evaluate(f"{PLOT}.calcdata[0][0].z.map(row => Array.from(row, v => Number.isFinite(v) ? v : null))")


def fault(page, setting: str, words: str):
    return page.locator(f".fault-{setting} p").filter(has_text=words).first


def arrived(page, address: str, panel: str, key: str, seconds: int = 90):
    """The page of `panel` with the finished figure that its first desk, `key`, opens with."""
    page.set_default_timeout(1000 * seconds)
    page.goto(f"{address}/?panel={panel}")
    page.wait_for_function("window.lab?.settled")
    page.wait_for_selector(f"#{key}-plot .main-svg")
    return page
