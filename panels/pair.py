"""One cell of a map of attention in words, by a click that stays, and the way from a head's place to its map."""

from __future__ import annotations

import html
import math
from typing import Any

import gradio as gr

from lab.events import AttentionMap
from panels.runner import GONE, QUIET, Desk

# `index` is [row, column, which of the maps of the figure]; Plotly draws anew at every update, so the click is attached again
WATCH = """
const attach = () => {
  const plot = document.querySelector('#ID .js-plotly-plot');
  if (!plot || !plot.on || plot.dataset.watched === 'yes') return;
  plot.dataset.watched = 'yes';
  plot.on('plotly_click', (event) => {
    const point = event.points[0];
    trigger('select', { index: [point.y, point.x, point.curveNumber], value: point.z });
  });
};
new MutationObserver(attach).observe(document.body, { childList: true, subtree: true });
attach();
"""
HINT = "<p>Click a cell: who reads whom, and how much, stays here. Click a head in the small maps to choose it.</p>"


def build(work: Desk) -> None:
    watcher = gr.HTML("", js_on_load=WATCH.replace("ID", f"{work.key}-plot"), elem_classes="invisible")
    words = gr.HTML(HINT, elem_id=f"{work.key}-cell", elem_classes="cell")
    with gr.Accordion("Choose a cell by its tokens", open=False), gr.Row():
        reader, read = (gr.Number(None, precision=0, label=text, elem_id=f"{work.key}-{key}", min_width=150)
                        for key, text in (("reader", "Token that reads"), ("source", "Token that is read")))
    layer, head = work.form["layer"], work.form["head"]

    def clicked(name: str, request: gr.Request, event: gr.EventData) -> dict[Any, Any]:
        row, column, which = (int(i) for i in event._data["index"])
        found = work.find(request, name)
        now = found.event if found else None
        if not isinstance(now, AttentionMap):
            return {words: f"<p>{GONE}</p>"}
        maps = 1 + bool(now.detail.size)
        if which < maps:
            return {words: explained(now, which, row, column)}
        place = now.layers[column]
        return {words: chosen(now, column, row), layer: place, head: row}

    def named(name: str, row: int | None, column: int | None, request: gr.Request) -> str:
        found = work.find(request, name)
        if not found or not isinstance(found.event, AttentionMap):
            return f"<p>{GONE}</p>"
        return by_tokens(found.event, row, column) if row is not None and column is not None else HINT

    watcher.select(clicked, work.shown, [words, layer, head], trigger_mode="always_last", **QUIET)
    gr.on([reader.input, read.input], named, [work.shown, reader, read], words, trigger_mode="always_last", **QUIET)
    work.shown.change(lambda: HINT, None, words, **QUIET)


def by_tokens(event: AttentionMap, row: int, column: int) -> str:
    """The cell that holds two tokens, in the window where they lie in it."""
    if not (0 <= row < len(event.tokens) and 0 <= column < len(event.tokens)):
        return f"<p>There is no such token: they go from 0 to {len(event.tokens) - 1}.</p>"
    query, key = event.detail_from
    if event.detail.size and 0 <= row - query < event.detail.shape[0] and 0 <= column - key < event.detail.shape[1]:
        return explained(event, 1, row - query, column - key)
    place = [next(i for i, part in enumerate(event.parts) if part[0] <= token < part[1]) for token in (row, column)]
    return explained(event, 0, *place)


def explained(event: AttentionMap, which: int, row: int, column: int) -> str:
    """What one cell says; `which` is 0 for the map, 1 for the window."""
    if which:
        query, key = (a + i for a, i in zip(event.detail_from, (row, column), strict=True))
        reads, source, weight = (query, query + 1), (key, key + 1), float(event.detail[row, column])
    else:
        reads, source, weight = event.parts[row], event.parts[column], float(event.weight[row, column])
    a, b = (html.escape("".join(event.tokens[x:y]).strip() or "␣") for x, y in (reads, source))
    where = f"layer {event.layer}, {'all heads' if event.head < 0 else f'head {event.head}'}"
    head = f'<p class="numbers"><b>{a}</b> (token {reads[0]}) → <b>{b}</b> (token {source[0]}), {where}: '
    if math.isnan(weight):
        return f"{head}nothing</p><p>This token reads nothing that is counted here.</p>"
    if source[0] >= reads[1]:
        return f"{head}<b>0</b></p><p>It comes later in the text, and no token reads what comes after it.</p>"
    shown = f"{head}<b>{weight:+.4f}</b></p>" if event.diverging else f"{head}<b>{weight:.4f}</b></p>"
    if event.diverging:
        return f"{shown}<p>So much {'more' if weight > 0 else 'less'} in B than in A.</p>"
    if event.variant == "value-weighted":
        return f"{shown}<p>What it carries from there to the reader, as a length in the residual stream.</p>"
    return f"{shown}<p>{weight:.1%} of what <b>{a}</b> reads {'up to this layer ' if event.variant == 'rollout' else ''}comes from there.</p>"


def chosen(event: AttentionMap, column: int, head: int) -> str:
    entropy, sink = event.entropy[column, head], event.sink[column, head]
    known = "" if math.isnan(entropy) else f" Its entropy is {entropy:.2f} nats, and {sink:.0%} of its attention rests on the first token."
    return f'<p class="numbers"><b>Layer {event.layers[column]}, head {head}</b> is chosen.</p><p>{known} Press Run to see its map.</p>'
