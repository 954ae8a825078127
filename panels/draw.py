"""The figure of an event. Pure: the same event gives the same figure."""

from __future__ import annotations

import html
from functools import singledispatch

import numpy as np
import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from lab.events import Progress, TraceMap
from panels.theme import GOLD, INK, SCALE

ROW, LINE = 28, 20  # pixels of a row of cells, and of a line of the title
WIDE = 46  # letters of a title line that still fit a phone
LONG = 16  # letters of a token's label


@singledispatch
def draw(event: object) -> go.Figure:
    raise TypeError(f"no figure for {type(event).__name__}: add one to panels/draw.py with @draw.register")


@draw.register
def _(event: Progress) -> go.Figure:
    """How far a run has come, where a page wants it as a figure."""
    share = event.done / event.total if event.total else 0.0
    figure = go.Figure(go.Bar(x=[share], y=[event.note], orientation="h", marker_color=GOLD))
    figure.update_layout(xaxis={"range": [0, 1], "tickformat": ".0%"}, height=120, margin={"t": 10, "b": 30, "l": 10, "r": 10})
    return plain(figure)


def label(event: TraceMap, token: int) -> str:
    """A token as a label: a star marks the subject, blanks are made visible, a very long one is cut."""
    begin, end = event.subject
    text = event.tokens[token].replace("\n", "⏎").strip() or "␣"
    text = text if len(text) <= LONG else text[: LONG - 1] + "…"
    return f"{text} *" if begin <= token < end else text


def scale_end(event: TraceMap) -> tuple[float, float]:
    """Where the colours begin and end: from 0, or what lies below it, to the largest effect."""
    found = event.effect[~np.isnan(event.effect)]
    return float(min(0.0, found.min(initial=0.0))), float(max(0.05, event.total_effect, found.max(initial=0.0)))


def headline(event: TraceMap) -> list[str]:
    """The lines over the map, always three: what was asked, and what the noise took away."""
    asked = f"{event.prompt} → {event.answer}".replace("\n", "⏎")
    if len(asked) > WIDE:  # the end of a long prompt, from a whole word on, with the answer
        asked = f"… {(tail := asked[2 - WIDE:]).partition(' ')[2] or tail}"
    return [f"<b>{html.escape(asked, quote=False)}</b>", f"P = {event.clean:.3f} undisturbed · P* = {event.corrupted:.3f} with noise",
            f"total effect {event.total_effect:.3f} ± {event.corrupted_se:.3f} · {event.samples} noise samples"]


@draw.register
def _(event: TraceMap) -> go.Figure:
    """Tokens from top to bottom, layers from left to right; what has not been computed yet is left blank."""
    rows, (begin, end), (low, high) = list(range(len(event.tokens))), event.subject, scale_end(event)
    names, lines = [html.escape(label(event, r), quote=False) for r in rows], headline(event)
    top = LINE * len(lines) + 72
    height = top + 52 + ROW * len(rows)
    figure = go.Figure(go.Heatmap(
        z=event.effect, x=list(event.layers), y=rows, customdata=event.effect_se, colorscale=SCALE, zmin=low, zmax=high, xgap=2, ygap=2,
        hoverongaps=False,
        colorbar={"title": {"text": "probability of the answer that came back", "side": "top", "font": {"size": 12}}, "orientation": "h",
                  "thickness": 9, "y": 1.0, "yanchor": "bottom", "x": 0.0, "xanchor": "left", "len": 1.0, "outlinewidth": 0, "ypad": 8,
                  "tickfont": {"size": 11}, "nticks": 5},
        text=[[name] * len(event.layers) for name in names],
        hovertemplate="<b>%{text}</b>, after layer %{x}<br>effect %{z:.3f} ± %{customdata:.3f}<extra></extra>"))
    figure.update_layout(
        title={"text": "<br>".join(lines), "font": {"size": 14}, "x": 0.0, "xref": "container", "xanchor": "left", "yref": "container",
               "yanchor": "bottom", "y": 1 - (LINE * len(lines) + 4) / height, "pad": {"l": 4}},  # of the last line
        xaxis={"title": {"text": "state restored after layer", "font": {"size": 13}, "standoff": 10}, "tickmode": "array",
               "tickvals": list(event.layers)[:: max(1, len(event.layers) // 12)], "showgrid": False, "zeroline": False,
               "fixedrange": True},
        yaxis={"tickmode": "array", "tickvals": rows, "ticktext": names, "range": [len(rows) - 0.5, -0.5], "showgrid": False,
               "zeroline": False, "fixedrange": True, "ticklabelstandoff": 8},
        shapes=[{"type": "rect", "name": "subject", "xref": "paper", "x0": 0, "x1": 0, "y0": begin - 0.45, "y1": end - 0.55,
                 "line": {"color": GOLD, "width": 5}, "layer": "above"}],
        height=height, margin={"l": 8, "r": 14, "t": top, "b": 52})
    return plain(figure)


def plain(figure: go.Figure) -> go.Figure:
    """Transparent, so that the page's own light or dark shows through, in the page's own type."""
    return figure.update_layout(paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", autosize=True, xaxis={"automargin": True},
                                yaxis={"automargin": True}, font={"color": INK, "family": "system-ui, sans-serif", "size": 13})


def thumbnail(event: TraceMap) -> str:
    """The map as a small table of coloured cells: drawn before any script has come, for the opening page."""
    low, high = scale_end(event)
    (begin, end), body = event.subject, []
    for row in range(len(event.tokens)):
        shares = np.clip((np.nan_to_num(event.effect[row], nan=low) - low) / (high - low), 0, 1).tolist()
        cells = "".join(f'<td style="background:{colour}"></td>' for colour in sample_colorscale(SCALE, shares))
        kind = " class=subject" if begin <= row < end else ""
        body.append(f'<tr{kind}><th scope="row">{html.escape(label(event, row))}</th>{cells}</tr>')
    said = f"Map of {event.prompt!r} to {event.answer!r}: each row a token, each column a layer; bright cells bring the answer back"
    return f'<table class="thumbnail" aria-label="{html.escape(said)}">{"".join(body)}</table>'
