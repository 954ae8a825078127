"""All pages together: one tab each, links that open them, and what every page shares."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import Field, fields
from types import ModuleType
from typing import Any

import gradio as gr

import panels
from lab.backend import LOCAL
from lab.experiment import parse
from models.errors import BadInput
from panels import story, theme
from panels.closer import Fold
from panels.runner import QUIET, Desk
from panels.shelf import SHELF
from panels.store import STORE

BRAND = f'<header class="brand">{theme.MARK}<b>Mnemoscope</b><span>what a network memorized, and where</span></header>'
NOTICE = '<div id="notice" role="status" hidden></div>'  # lab.js says here that the server is away, or was restarted


def pages() -> list[ModuleType]:
    """The modules of this folder that are pages, in their order."""
    found = [importlib.import_module(f"panels.{m.name}") for m in pkgutil.iter_modules(panels.__path__)]
    return sorted((m for m in found if hasattr(m, "TITLE")), key=lambda m: m.ORDER)


def build() -> gr.Blocks:
    with gr.Blocks(title="Mnemoscope", analytics_enabled=False, delete_cache=(3600, 7200), fill_width=True) as page:
        desks: dict[str, tuple[Desk, list[Fold]]] = {}
        start: gr.Button | None = None
        top = gr.HTML(BRAND + NOTICE, elem_classes="top")
        with gr.Tabs(elem_id="pages") as tabs:
            for module in pages():
                name = module.__name__.rpartition(".")[2]
                with gr.Tab(module.TITLE, id=name, elem_id=f"tab-{name}") as tab:
                    built = module.build()
                tab.select(None, js=f"() => lab.at('{name}')", api_visibility="private")
                if isinstance(built, tuple):
                    desks[name] = built
                else:
                    start = built
        story.connect(tabs, desks)
        for name, (desk, folds) in desks.items():
            restore(page, tabs, name, desk, folds)
        if start is not None:
            lead(start, tabs, desks["trace"][0])
        gr.api(status, api_name="status", api_visibility="undocumented", queue=False)
        page.unload(leave)
    # Gradio tells every output ever named by an event of every step of every later event, searching the whole page for each; one place is enough, as
    # nothing here draws its progress
    for event in page.fns.values():
        event.show_progress_on = [top]
    return page


def status() -> dict:
    """Whether a run holds a device now, and what the visitors hold; for tests, and for who looks after a server."""
    return {"busy": LOCAL.busy()} | STORE.counts() | SHELF.counts()


def leave(request: gr.Request) -> None:
    STORE.leave(str(request.session_hash))
    SHELF.leave(str(request.session_hash))


def lead(start: gr.Button, tabs: gr.Tabs, desk: Desk) -> None:
    """The button of the opening page: the example of `desk`, as on arrival, with its first steps unfolded."""

    def opened() -> dict[Any, Any]:
        return desk.arrival() | {tabs: gr.Tabs(selected=desk.page)} | ({desk.guide: gr.Accordion(open=True)} if desk.guide else {})

    shown = start.click(opened, None, [tabs, *desk.everything, *([desk.guide] if desk.guide else [])], **QUIET)
    if desk.described:
        desk.described(shown)


def restore(page: gr.Blocks, tabs: gr.Tabs, name: str, desk: Desk, folds: list[Fold]) -> None:
    """A link with ?panel=NAME opens that page, fills the form of its desk, or of the one that ?experiment= names, runs it and points at its cell; any
    other address leaves it as it is."""
    asked = gr.State({})  # what the link asks for beside the form: {"run": ..., "cell": "token.layer"}

    def fill(request: gr.Request) -> dict[Any, Any]:
        query, here = dict(request.query_params), {desk.plot: gr.skip() if desk.drawn is None else desk.drawn}
        if query.pop("panel", None) != name:
            return here
        fold = next((f for f in folds if f.name == query.get("experiment")), None)
        known = {f.name: value for f in fields((fold or desk).kind) if (value := readable(f, query.get(f.name))) is not None}
        model = {desk.model: query["model"]} if "model" in query else {}
        if fold:
            return here | {tabs: gr.Tabs(selected=name)} | model | fold.unfolded(known)
        wanted = {"run": bool(known), "cell": query.get("cell", "")} if known or {"cell", "model"} & set(query) else {}
        return here | {tabs: gr.Tabs(selected=name), asked: wanted} | model | {desk.form[setting]: value for setting, value in known.items()}

    def begin(wanted: dict, request: gr.Request) -> dict[Any, Any]:
        return desk.begin(request) if wanted.get("run") else {desk.progress: gr.skip()}

    filled = page.load(fill, None, [tabs, asked, desk.plot, *desk.inputs, *[c for f in folds for c in (f.accordion, f.wanted)]], **QUIET)
    filled.then(None, js="() => lab.settle()", api_visibility="private")
    done = desk.follow(asked.change(begin, asked, desk.cleared, queue=False, **QUIET))
    if desk.described:
        desk.described(done)
    if desk.pointed:
        desk.pointed(done, asked)


def readable(f: Field, text: str | None) -> Any:
    """The value that a link gives to a setting; None where it gives none, or one that is no number where one is needed."""
    try:
        return None if text is None else parse(f, text)
    except BadInput:
        return None
