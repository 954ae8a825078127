"""Figures of what was measured of items: many of them at once, one token by token, and tables."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from lab.events import Completion, Survey, Table
from panels.draw import draw, escaped, facts, headed, heading, plain, visible
from panels.theme import FAINT, GOLD, LINES, RULED

COPIES = "copies in the corpus"
SYMBOLS = ("circle", "diamond", "square", "triangle-up", "cross", "x")
DRAWN, LONG = 12, 90  # rows of a table that are drawn, and letters of a cell
BROAD = 26  # letters of a column of a table before its text breaks


def axis(event: Survey, name: str) -> np.ndarray:
    """The numbers of a measure, or of the copies."""
    return event.copies if name == COPIES else event.value[:, event.measures.index(name)]


def scatter(event: Survey, x: str = COPIES, y: str = "", kinds: Sequence[str] = ()) -> go.Figure:
    """A point an item: one measure against the copies, or against another measure; a colour and a shape for every kind."""
    y = y or event.measures[0]
    figure, across, up = go.Figure(), axis(event, x), axis(event, y)
    for i, kind in enumerate(dict.fromkeys(event.kinds)):
        if kinds and kind not in kinds:
            continue
        mine = np.array([k == kind for k in event.kinds]) & ~np.isnan(across) & ~np.isnan(up)
        spread = jitter(np.flatnonzero(mine)) if x == COPIES else 0.0
        told = [f"{escaped(visible(event.labels[j], 40))}, {escaped(event.splits[j])}, {copies(event.copies[j])}" for j in np.flatnonzero(mine)]
        figure.add_trace(go.Scatter(
            x=place(across[mine]) + spread if x == COPIES else across[mine], y=up[mine], mode="markers", name=escaped(kind), text=told,
            customdata=[event.items[j] for j in np.flatnonzero(mine)],
            marker={"size": 8, "color": LINES[i % len(LINES)], "symbol": SYMBOLS[i % len(SYMBOLS)], "opacity": 0.7},
            hovertemplate="%{text}<br>" + escaped(y) + ": %{y:.4g}<extra></extra>"))
    about = event.about[event.measures.index(y)]
    ticks: dict[str, Any] = counted(across) if x == COPIES else {}
    figure.update_layout(xaxis={**RULED, **ticks}, yaxis={**RULED, "title": {"text": escaped(y), "font": {"size": 13}}},
                         legend={"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "font": {"size": 12}})
    above = 16 + 19 * -(-len(figure.data) // 2)  # a phone has room for two names a line
    return headed(figure, [*heading(event.title), *facts((*event.facts, f"{y}: {about}"))], 340, x, 52, above)


def place(count: np.ndarray) -> np.ndarray:
    """Copies on a scale of doublings: 0 stands at 0, 1 at 1, 2 at 2, 4 at 3; what nobody knows at -1."""
    return np.where(count < 0, -1.0, np.where(count == 0, 0.0, 1 + np.log2(np.maximum(count, 1))))


def jitter(index: np.ndarray) -> np.ndarray:
    """A little to the left or right, the same at every drawing, so that points on one number of copies can be told apart."""
    return ((index * 0.61803398875) % 1 - 0.5) * 0.4


def counted(count: np.ndarray) -> dict[str, Any]:
    """Ticks that say the copies themselves."""
    known = sorted({int(c) for c in count if not np.isnan(c)})
    chosen = [c for c in known if c <= 0 or (c & (c - 1)) == 0] or known[:8]
    return {"tickmode": "array", "tickvals": place(np.array(chosen, float)).tolist(), "ticktext": ["not known" if c < 0 else str(c) for c in chosen]}


def copies(count: float) -> str:
    return "copies not known" if count < 0 else "never read" if count == 0 else f"{count:.0f} {'copy' if count == 1 else 'copies'}"


@draw.register
def _(event: Survey) -> go.Figure:
    return scatter(event)


@draw.register
def _(event: Completion) -> go.Figure:
    """A bar a token, as high as the model's probability for it; what asks is pale, what it would not have said itself is hollow."""
    number = list(range(len(event.tokens)))
    first = [rank == 1 for rank in event.rank]
    colours = [FAINT if i < event.given else LINES[2] if hit else LINES[1] for i, hit in enumerate(first)]
    told = [f"<b>{escaped(visible(token))}</b><br>probability {p:.3f}, rank {r:.0f}<br>likeliest there: {escaped(visible(best))}" if not np.isnan(p)
            else f"<b>{escaped(visible(token))}</b>" for token, p, r, best in zip(event.tokens, event.probability, event.rank, event.likeliest, strict=True)]
    figure = go.Figure(go.Bar(x=number, y=np.nan_to_num(event.probability), marker={"color": colours}, customdata=told,
                              hovertemplate="%{customdata}<extra></extra>", showlegend=False))
    labels = [escaped(visible(token, 12)) for token in event.tokens]
    figure.update_layout(bargap=0.25, yaxis={**RULED, "range": [0, 1.02], "title": {"text": "probability before it was seen", "font": {"size": 13}}},
                         xaxis={"tickmode": "array", "tickvals": number, "ticktext": labels, "tickangle": -60, "fixedrange": True, "showgrid": False,
                                "tickfont": {"size": 10}},
                         shapes=[{"type": "line", "x0": event.given - 0.5, "x1": event.given - 0.5, "y0": 0, "y1": 1, "yref": "paper",
                                  "line": {"color": GOLD, "width": 2, "dash": "dash"}}] if event.given else [])
    said = (f"it says: {event.said}".replace("\n", "⏎"), "green: the token it holds for likeliest; orange: it would have said another; grey: given")
    return headed(figure, [*heading(event.title), *facts((*event.facts, *said))], 260, "token", 96, 12)


@draw.register
def _(event: Table) -> go.Figure:
    """The first rows as a picture, long cells cut, for export; the page has all of them in a table that can be sorted."""
    rows = event.rows[:DRAWN]
    words = [[broken(cell(row[i])) for row in rows] for i in range(len(event.columns))]
    lines = sum(max((column[r].count("<br>") + 1 for column in words), default=1) for r in range(len(rows)))
    wide = [max([10, min(BROAD, len(name)), *(max(map(len, text.split("<br>"))) for text in column)]) for name, column in
            zip(event.columns, words, strict=True)]
    small: dict[str, Any] = {"align": "left", "font": {"size": 12}}
    figure = go.Figure(go.Table(
        columnwidth=wide, header={"values": [f"<b>{broken(name)}</b>" for name in event.columns], "fill": {"color": FAINT}, "line": {"width": 0}, **small},
        cells={"values": words, "fill": {"color": "rgba(0,0,0,0)"}, "line": {"color": FAINT}, "height": 20, **small}))
    cut = (f"the first {DRAWN} of {len(event.rows)} rows",) if len(event.rows) > DRAWN else ()
    title = [*heading(event.title), *facts((*event.facts, *([event.missing] if event.missing else []), *cut))]
    top = 20 * len(title) + 16
    height = top + 60 + 19 * lines + 4 * len(rows)
    figure.update_layout(title={"text": "<br>".join(title), "font": {"size": 14}, "x": 0.0, "xref": "container", "xanchor": "left", "yref": "container",
                                "yanchor": "top", "y": 1 - 12 / height, "pad": {"l": 4}}, height=height, margin={"l": 4, "r": 4, "t": top, "b": 10})
    return plain(figure)


def cell(value: str | float | None) -> str:
    """A cell in words: a number to four digits."""
    return "–" if value is None else value if isinstance(value, str) else f"{value:.4g}"


def broken(text: str) -> str:
    return "<br>".join(escaped(part) for part in textwrap.wrap(visible(text, LONG), BROAD)) if text else ""


