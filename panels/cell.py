"""One cell of the map in words: by a click on it, by a button, or by choosing its token and layer."""

from __future__ import annotations

import html
import math
from typing import Any

import gradio as gr
import numpy as np

from lab.events import TraceMap
from panels import terms
from panels.draw import label
from panels.runner import GONE, QUIET, Desk
from panels.store import Shown

# Plotly redraws its element at every update, so the click is attached again whenever the page changes.
WATCH = """
const attach = () => {
  const plot = document.querySelector('#ID .js-plotly-plot');
  if (!plot || !plot.on || plot.dataset.watched === 'yes') return;
  plot.dataset.watched = 'yes';
  plot.on('plotly_click', (event) => trigger('select', { index: [event.points[0].y, event.points[0].x], value: event.points[0].z }));
};
new MutationObserver(attach).observe(document.body, { childList: true, subtree: true });
attach();
"""
HINT = "<p>Click a cell of the map: its numbers, and what they mean, appear here.</p>"
POINTS = {"subject": "Brightest at the subject", "last": "Brightest at the last token", "between": "Brightest elsewhere"}


def build(work: Desk) -> None:
    """The listener on the plot, the buttons and lists for those who use no mouse, and the sentence."""
    watcher = gr.HTML("", js_on_load=WATCH.replace("ID", f"{work.key}-plot"), elem_classes="invisible")
    words = gr.HTML(HINT, elem_id=f"{work.key}-cell", elem_classes="cell")
    with gr.Row(elem_classes="exports"):
        buttons = {name: gr.Button(text, size="sm", elem_id=f"{work.key}-{name}") for name, text in POINTS.items()}
    with gr.Accordion("Choose a cell by its token and layer", open=False), gr.Row():
        example = work.first.result if work.first else None
        token = gr.Dropdown(choices(example), value=None, label="Token", elem_id=f"{work.key}-token", min_width=150)
        layer = gr.Number(None, precision=0, label="Layer", elem_id=f"{work.key}-layer", min_width=150)

    def explained(name: str, token: int | None, layer: int | None, request: gr.Request) -> str:
        return explain(work.find(request, name), token, layer)

    def clicked(name: str, request: gr.Request, event: gr.EventData) -> tuple[str, int, int]:
        token, layer = (int(i) for i in event._data["index"])
        return explained(name, token, layer, request), token, layer

    def pointed(name: str, which: str, request: gr.Request) -> tuple[str, int | None, int | None]:
        found = work.find(request, name)
        token, layer = brightest(found, which)
        return explain(found, token, layer), token, layer

    def named(name: str, wanted: dict, request: gr.Request) -> tuple[Any, Any, Any]:
        token, _, layer = wanted.get("cell", "").partition(".")
        if not token.isdigit() or not layer.isdigit():
            return gr.skip(), gr.skip(), gr.skip()
        return explained(name, int(token), int(layer), request), int(token), int(layer)

    def fresh(name: str, request: gr.Request) -> tuple[Any, str, None]:
        found = work.find(request, name)
        return gr.Dropdown(choices(found.event if found else None), value=None), HINT, None

    told = [words, token, layer]
    mark = {"js": f"(token, layer) => lab.mark('{work.key}-plot', token, layer)", "api_visibility": "private"}
    watcher.select(clicked, work.shown, told, trigger_mode="always_last", **QUIET)
    for name, button in buttons.items():
        button.click(pointed, [work.shown, gr.State(name)], told, **QUIET)
    gr.on([token.input, layer.input], explained, [work.shown, token, layer], words, trigger_mode="always_last", **QUIET)
    gr.on([token.change, layer.change], None, [token, layer], None, **mark)
    work.shown.change(fresh, work.shown, [token, words, layer], **QUIET)
    work.pointed = lambda event, asked: event.then(named, [work.shown, asked], told, **QUIET)


def choices(event: Any) -> list[tuple[str, int]]:
    return [(f"{i}: {label(event, i)}", i) for i in range(len(event.tokens))] if isinstance(event, TraceMap) else []


def brightest(found: Shown | None, which: str) -> tuple[int | None, int | None]:
    """Token and layer of the largest effect at the subject, at the last token, or at none of them."""
    event = found.event if found else None
    if not isinstance(event, TraceMap):
        return None, None
    begin, end = event.subject
    rows = {"subject": range(begin, end), "last": [len(event.tokens) - 1]}
    rows["between"] = [r for r in range(end, len(event.tokens) - 1)] or [r for r in range(begin)]
    part = event.effect[list(rows[which])] if rows[which] else np.full((1, 1), np.nan)
    if np.isnan(part).all():
        return None, None
    row, column = np.unravel_index(int(np.nanargmax(part)), part.shape)
    return list(rows[which])[row], event.layers[column]


def explain(found: Shown | None, token: int | None, layer: int | None) -> str:
    """What one cell measured, and what that means."""
    event = found.event if found else None
    if not isinstance(event, TraceMap):
        return f"<p>{GONE}</p>"
    if token is None or layer is None:
        return HINT
    if layer not in event.layers or not 0 <= token < len(event.tokens):
        return f"<p>There is no such cell: the layers go from {event.layers[0]} to {event.layers[-1]}.</p>"
    column = event.layers.index(layer)
    effect, error = float(event.effect[token, column]), float(event.effect_se[token, column])
    if math.isnan(effect):
        return "<p>This cell has not been computed yet.</p>"
    about = "≈ " if token in event.pending else ""
    head = f"<b>{html.escape(label(event, token))}</b> {terms.place(event, column)}: <b>{about}{effect:+.3f} ± {error:.3f}</b>"
    still = " This is an approximation; the exact number has not been run yet." if about else ""
    return f'<p class="numbers">{head}</p><p>{terms.meaning(event, token, column, effect, error)}{still}</p>'
