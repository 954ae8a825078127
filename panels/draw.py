"""The figure of an event. Pure: the same event gives the same figure."""

from __future__ import annotations

from functools import singledispatch

import numpy as np
import plotly.graph_objects as go

from lab.events import TraceMap
from panels.theme import GRID, INK, SCALE


@singledispatch
def draw(event: object) -> go.Figure:
    raise TypeError(f"no figure for {type(event).__name__}: add one to panels/draw.py with @draw.register")


def label(event: TraceMap, token: int) -> str:
    """A token as an axis label: its number keeps equal tokens apart, a star marks the subject, spaces are made visible."""
    begin, end = event.subject
    text = event.tokens[token].replace("\n", "⏎")
    return f"{text if text.strip() else '␣'}{' *' if begin <= token < end else ''}"


@draw.register
def _(event: TraceMap) -> go.Figure:
    """Tokens from top to bottom, layers from left to right; what has not been computed yet is left blank."""
    rows = list(range(len(event.tokens)))
    best = np.nanmax(event.effect, initial=0.0)
    figure = go.Figure(go.Heatmap(
        z=event.effect, x=list(event.layers), y=rows, customdata=event.effect_se, colorscale=SCALE, zmin=min(0.0, float(np.nanmin(event.effect, initial=0.0))),
        zmax=max(float(best), 0.05), xgap=1, ygap=1, hoverongaps=False,
        colorbar={"title": {"text": "effect", "side": "right"}, "thickness": 12, "outlinewidth": 0},
        hovertemplate="%{text}, after layer %{x}<br>effect %{z:.3f} ± %{customdata:.3f}<extra></extra>",
        text=[[label(event, r)] * len(event.layers) for r in rows]))
    figure.update_layout(
        title={"text": f"P({event.answer}) = {event.clean:.3f} clean, {event.corrupted:.3f} noisy<br>"
                       f"<sup>total effect {event.total_effect:.3f} ± {event.corrupted_se:.3f} · {event.samples} noise samples</sup>",
               "font": {"size": 15}, "x": 0.01, "xref": "container", "xanchor": "left"},
        xaxis={"title": "restored after layer", "tickmode": "array", "tickvals": list(event.layers)[:: max(1, len(event.layers) // 16)],
               "showgrid": False, "zeroline": False},
        yaxis={"tickmode": "array", "tickvals": rows, "ticktext": [label(event, r) for r in rows], "autorange": "reversed", "showgrid": False,
               "zeroline": False},
        height=190 + 26 * len(rows))
    return plain(figure)


def plain(figure: go.Figure) -> go.Figure:
    """Transparent, so that the page's own light or dark shows through, in the page's own type."""
    return figure.update_layout(paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", font={"color": INK, "family": "system-ui, sans-serif", "size": 13},
                                margin={"l": 10, "r": 10, "t": 70, "b": 50}, xaxis={"gridcolor": GRID, "automargin": True},
                                yaxis={"gridcolor": GRID, "automargin": True}, autosize=True)
