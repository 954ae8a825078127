"""One cell of the map in words: by a click on it, or by choosing its token and layer."""

from __future__ import annotations

import math
from typing import Any

import gradio as gr

from lab.events import TraceMap
from lab.runs import Run
from panels.draw import label
from panels.runner import Desk

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


def build(work: Desk) -> None:
    """The listener on the plot, the two lists for those who use no mouse, and the sentence."""
    quiet: Any = {"api_visibility": "private", "show_progress": "hidden"}
    watcher = gr.HTML("", js_on_load=WATCH.replace("ID", f"{work.key}-plot"), elem_classes="invisible")
    words = gr.Markdown("Click a cell for its numbers.", elem_id=f"{work.key}-cell", elem_classes="cell")
    with gr.Accordion("Choose a cell without a mouse", open=False), gr.Row():
        token = gr.Dropdown(choices(work.shown.value), label="token", elem_id=f"{work.key}-token")
        layer = gr.Number(0, precision=0, label="layer", elem_id=f"{work.key}-layer")
    watcher.select(clicked, work.shown, [words, token, layer], trigger_mode="always_last", **quiet)
    gr.on([token.input, layer.input], lambda run, t, n: explain(run, t, n), [work.shown, token, layer], words, **quiet)
    work.shown.change(lambda run: (gr.Dropdown(choices(run), value=None), "Click a cell for its numbers."), work.shown, [token, words], **quiet)


def choices(run: Run | None) -> list[tuple[str, int]]:
    event = run.result if run else None
    return [(f"{i}: {label(event, i)}", i) for i in range(len(event.tokens))] if isinstance(event, TraceMap) else []


def clicked(run: Run | None, event: gr.EventData) -> tuple[str, int, int]:
    token, layer = (int(i) for i in event._data["index"])
    return explain(run, token, layer), token, layer


def explain(run: Run | None, token: int | None, layer: int | None) -> str:
    """What one cell measured, and what that means."""
    event = run.result if run else None
    if not isinstance(event, TraceMap) or token is None or layer is None:
        return "Run the trace to its end, then click a cell."
    if layer not in event.layers or not 0 <= token < len(event.tokens):
        return f"There is no such cell: the layers go from {event.layers[0]} to {event.layers[-1]}."
    effect, error = float(event.effect[token, layer]), float(event.effect_se[token, layer])
    if math.isnan(effect):
        return "This cell has not been computed yet."
    return f"**{label(event, token)}, after layer {layer}: {effect:+.3f} ± {error:.3f}.** {meaning(event, token, effect, error)}"


def meaning(event: TraceMap, token: int, effect: float, error: float) -> str:
    begin, end = event.subject
    share = effect / event.total_effect if event.total_effect > 0.01 else 0.0
    if token < begin:
        return "This token comes before the subject, so the noise never reached it, and there is nothing to restore."
    if abs(effect) <= 2 * error or abs(effect) < 0.005:
        return "Restoring this one state changes nothing that could be told from the noise: the answer does not pass through here alone."
    if effect < 0:
        return f"Restoring this state makes *{event.answer}* less likely than with the noise alone: here it works against the rest of the disturbed run."
    back = f"Restoring this one state brings back {share:.0%} of what the noise took from *{event.answer}*."
    if token == len(event.tokens) - 1:
        return f"{back} It is the last token, where the answer is put together and spoken, so late layers are always bright here."
    if begin <= token < end:
        return f"{back} It belongs to the subject: what the network needs of it has been gathered here by this layer."
    return f"{back} It is a word between the subject and the answer: the fact has travelled here on its way."
