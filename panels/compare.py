"""Two maps side by side: one is held as A, the next one shown is B, and the page draws B − A."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from lab.events import TraceMap
from lab.trace._difference import difference
from models.errors import BadInput, LabError
from panels import export, form, terms
from panels.draw import draw
from panels.runner import GONE, QUIET, Desk, exports, source
from panels.store import STORE, Shown

NOTHING = "<p>A: no map is held yet. Press <b>Hold as A</b>, then run or open another map.</p>"


@dataclass
class Comparison:
    """`keep` holds the map that is shown as A, `subtract` draws B - A; each may follow an event of another page."""

    work: Desk
    keep: Callable
    subtract: Callable
    held: gr.Textbox
    kept: list[Any]  # what `keep` changes
    drawn: list[Any]  # what `subtract` changes

    def keep_after(self, event: Any) -> Any:
        return event.then(self.keep, self.work.shown, self.kept, **QUIET)

    def show_after(self, event: Any) -> Any:
        return event.then(self.subtract, [self.held, self.work.shown], self.drawn, **QUIET)


def build(work: Desk, words: str) -> Comparison:
    key = f"{work.key}-compare"
    with gr.Accordion("Compare two maps", open=False, elem_id=key) as fold:
        gr.Markdown(words)
        told = gr.HTML(NOTHING, elem_classes="told", elem_id=f"{key}-held")
        with gr.Row(elem_classes="actions"):
            hold = gr.Button("Hold as A", elem_id=f"{key}-hold")
            show = gr.Button("Show B − A", elem_id=f"{key}-show")
        fault = form.message("compare")
        held, shown = (gr.Textbox("", visible="hidden") for _ in range(2))
        plot = gr.Plot(None, visible=False, elem_id=f"{key}-plot", show_label=False, container=False)
        with gr.Row(elem_classes="exports", visible=False) as away:
            exports(key, {"csv": packed}, shown, fault)

    def keep(name: str, request: gr.Request) -> dict[Any, Any]:
        found = work.find(request, name)
        if found is None or not isinstance(found.event, TraceMap):
            return {fault: form.fault(LabError(GONE))}
        kept = STORE.put(str(request.session_hash), Shown(found.event, found.run))
        return {held: kept, told: described(found), fault: form.clear(), plot: gr.Plot(None, visible=False), away: gr.Row(visible=False)}

    def subtract(a: str, b: str, request: gr.Request) -> dict[Any, Any]:
        try:
            one, two = STORE.get(str(request.session_hash), a), work.find(request, b)
            if one is None or two is None or not isinstance(one.event, TraceMap) or not isinstance(two.event, TraceMap):
                raise BadInput("no map is held as A" if not a else GONE.rstrip("."), cure="Press Hold as A first" if not a else "")
            grid = difference(one.event, two.event)
            name = STORE.put(str(request.session_hash), Shown(grid), key)
            return {plot: gr.Plot(draw(grid), visible=True), shown: name, away: gr.Row(visible=True), fault: form.clear(), fold: gr.Accordion(open=True)}
        except LabError as error:
            return {fault: form.fault(error)}

    found = Comparison(work, keep, subtract, held, [held, told, fault, plot, away], [plot, shown, away, fault, fold])
    hold.click(keep, work.shown, found.kept, **QUIET)
    show.click(subtract, [held, work.shown], found.drawn, **QUIET)
    return found


def packed(name: str, request: gr.Request) -> tuple[str, Any]:
    found = STORE.get(str(request.session_hash), name)
    return (export.as_csv(found.event), form.clear()) if found else ("", form.fault(LabError(GONE)))


def described(found: Shown) -> str:
    """What is held, in one line."""
    event = found.event
    assert isinstance(event, TraceMap)
    model = f" on {source(found.run)}" if found.run else ""
    return f"<p>A: <b>{html.escape(f'{event.prompt} → {event.answer}')}</b>, {html.escape(f'{terms.short(event)}{model}')}</p>"
