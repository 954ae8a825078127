"""How a map was computed: the engine in words, its check against a plain forward, its cost, and how good the approximation was."""

from __future__ import annotations

import html
import math
from typing import Any

import gradio as gr
import numpy as np

from lab.events import Scatter, TraceMap
from panels.draw import draw, exact, label
from panels.runner import QUIET, Desk
from panels.store import Shown

ENGINES = {"suffix": "Every cell ran from its own token and layer on. What comes before is the same in all of them, and was computed once.",
           "restart": "Every cell ran from its own layer on, for all tokens. The layers before are the same in all of them, and were computed once.",
           "plain": "Every cell ran as a whole forward pass: for this model no shorter way gave the same numbers."}
DRAWN, BEST = 1000, 10  # points of the figure, and cells at the top that are counted


def build(work: Desk) -> None:
    """Two folds under the map, filled whenever a run has ended."""
    first = work.first.result if work.first else None
    with gr.Accordion("How this was computed", open=False, elem_id=f"{work.key}-computed"):
        words = gr.HTML(told(first), elem_classes="told")
        with gr.Accordion("Was the approximation good?", open=False, elem_id=f"{work.key}-against") as fold:
            plot = gr.Plot(None, show_label=False, container=False, elem_id=f"{work.key}-against-plot")

    def event(name: str, request: gr.Request) -> Any:
        found: Shown | None = work.find(request, name)
        return found.event if found else None

    def retold(name: str, request: gr.Request) -> str:
        return told(event(name, request))

    def compared(name: str, request: gr.Request) -> Any:
        points = against(event(name, request))
        return draw(points) if points else None

    work.done.change(retold, work.shown, words, **QUIET)
    gr.on([fold.expand, work.done.change], compared, work.shown, plot, **QUIET)


def told(event: Any) -> str:
    """What the lab did for this map, as a list."""
    if not isinstance(event, TraceMap):
        return "<p>Run a map first.</p>"
    drawn = ", ".join(html.escape(name) for name in event.replaced)
    lines = [ENGINES.get(event.engine, ""), checked(event), filled(event), cost(event),
             f"In place of the subject stood: {drawn}." if drawn else "",
             "Rows marked ≈ were not run before the run was stopped: they show the approximation." if event.pending else ""]
    return f"<ul>{''.join(f'<li>{line}</li>' for line in lines if line)}</ul>"


def checked(event: TraceMap) -> str:
    if math.isnan(event.check):
        return "There was nothing to check against a plain forward pass." if event.engine == "plain" else "No cell was checked yet."
    said = f"differ by {event.check:.1g}" if event.check else "are the same to the last bit"
    return f"One cell was run again as a plain forward pass. The two numbers {said}."


def filled(event: TraceMap) -> str:
    share = event.filled / event.cells if event.cells else 0.0
    return f"The map has {event.cells:,} cells. {event.filled:,} of them ({share:.0%}) cannot differ from the disturbed run, so they did not have to run."


def cost(event: TraceMap) -> str:
    """Against the plainest way to make the same map."""
    if not event.flops or not event.loop_flops:
        return ""
    times = event.loop_flops / event.flops
    rate = f"1/{times:.0f}" if times >= 10 else f"1/{times:.1f}"
    return f"This took {operations(event.flops)}: {rate} of the {operations(event.loop_flops)} of one whole forward pass a cell."


def operations(count: float) -> str:
    for size, name in ((1e15, "quadrillion"), (1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if count >= size:
            return f"{count / size:.3g} {name} operations"
    return f"{count:,.0f} operations"


def against(event: Any) -> Scatter | None:
    """Every cell that ran: its approximation, and what it turned out to be. None where nothing was approximated, or too little ran."""
    if not isinstance(event, TraceMap):
        return None
    run = exact(event)
    known = ~np.isnan(run) & ~np.isnan(event.approximation) & ((run != 0) | (event.approximation != 0))  # both 0: filled in
    x, y, cells = event.approximation[known], run[known], np.argwhere(known)
    if len(x) < 3:
        return None
    best = min(BEST, len(x))
    both = len(set(np.argsort(-x)[:best].tolist()) & set(np.argsort(-y)[:best].tolist()))
    said = (f"Spearman {correlation(ranks(x), ranks(y)):.2f} · Pearson {correlation(x, y):.2f} · {len(x):,} cells",
            f"Of the {best} strongest cells the approximation has {both} among its own {best}")
    kept = np.argsort(-np.maximum(np.abs(x), np.abs(y)), kind="stable")[:DRAWN]
    names = tuple(f"{label(event, row)}, layer {event.layers[column]}" for row, column in cells[kept].tolist())
    return Scatter("Approximation against exact effect", names, x[kept], y[kept], "approximation (first order)", "exact effect", True,
                   "on the diagonal the approximation is right", said)


def ranks(values: np.ndarray) -> np.ndarray:
    """The place of each value in order; equal values share the mean of their places."""
    _, inverse, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[inverse]


def correlation(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.corrcoef(x, y)[0, 1]) if x.std() > 0 and y.std() > 0 else math.nan
