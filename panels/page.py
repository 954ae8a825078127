"""All pages together: one tab each, links that open them, and the page's own state from its address."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import Field, fields
from types import ModuleType
from typing import Any

import gradio as gr

import panels
from lab.backend import LOCAL
from lab.experiment import parse
from models.errors import BadInput
from panels.runner import Desk


def pages() -> list[ModuleType]:
    """The modules of this folder that are pages, in their order."""
    found = [importlib.import_module(f"panels.{m.name}") for m in pkgutil.iter_modules(panels.__path__)]
    return sorted((m for m in found if hasattr(m, "TITLE")), key=lambda m: m.ORDER)


def build() -> gr.Blocks:
    with gr.Blocks(title="Mnemoscope", analytics_enabled=False, delete_cache=(3600, 7200), fill_width=True) as page:
        desks: dict[str, Desk] = {}
        start = None
        with gr.Tabs(elem_id="pages") as tabs:
            for module in pages():
                name = module.__name__.rpartition(".")[2]
                with gr.Tab(module.TITLE, id=name, elem_id=f"tab-{name}"):
                    built = module.build()
                if isinstance(built, Desk):
                    desks[name] = built
                else:
                    start = built
        if start is not None:
            start.click(lambda: gr.Tabs(selected="trace"), None, tabs, api_visibility="private", show_progress="hidden")
        gr.api(busy, api_name="busy", queue=False)
        for name, desk in desks.items():
            restore(page, tabs, name, desk)
    return page


def busy() -> bool:
    """Whether any run holds a device of this server now."""
    return LOCAL.busy()


def restore(page: gr.Blocks, tabs: gr.Tabs, name: str, desk: Desk) -> None:
    """A link with ?panel=NAME opens that page, fills its form and runs it again; any other address leaves it as it is."""
    asked = gr.State(False)

    def fill(request: gr.Request) -> list[Any]:
        query = dict(request.query_params)
        if query.pop("panel", None) != name:
            return [gr.skip(), False, gr.skip(), *[gr.skip() for _ in desk.form]]
        known = {f.name: value for f in fields(desk.kind) if (value := readable(f, query.get(f.name))) is not None}
        return [gr.Tabs(selected=name), bool(known), query.get("model", gr.skip()), *[known.get(f, gr.skip()) for f in desk.form]]

    def run(wanted: bool, *values: Any) -> Iterator[dict[Any, Any]]:
        if wanted:
            yield from desk.follow(*values)
        else:
            yield {desk.progress: ""}

    filled = page.load(fill, None, [tabs, asked, *desk.inputs], api_visibility="private", show_progress="hidden")
    again = filled.then(run, [asked, *desk.inputs], desk.outputs, concurrency_id="device", api_visibility="private", show_progress="hidden")
    desk.stop.click(None, None, None, cancels=[again], api_visibility="private")
    if desk.described:
        desk.described(filled)


def readable(f: Field, text: str | None) -> Any:
    """The value that a link gives to a setting; None where it gives none, or one that is no number where one is needed."""
    try:
        return None if text is None else parse(f, text)
    except BadInput:
        return None
