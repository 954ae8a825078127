"""The figure of an event. Pure: the same event gives the same figure."""

from __future__ import annotations

import html
import textwrap
from functools import singledispatch
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from lab.events import Curves, Grid, Progress, Scatter, TraceMap
from panels import terms
from panels.theme import DASHES, DIVERGING, EDGE, FAINT, GOLD, INK, LINES, NIGHT, PAPER, RULED, SCALE

ROW, LINE = 28, 20  # pixels of a row of cells, and of a line of the title
SHAPES = ("circle", "diamond", "square", "triangle-up", "cross", "x")  # of points, by their group
WIDE, FINE = 38, 50  # letters of a title line, and of one in small type, that still fit a phone
LONG, NOTE = 16, 9  # letters of a token's label, and of a word in a cell
MANY = 12  # columns with a label each; of more, every second or third has one
CROWD = 30  # columns of which not even short words fit
BARRED = 44  # pixels over the cells for the scale of colours
# what plotly's own template says that matters here: that one has 7 kB, and a figure is sent whole at every update
AXIS: dict[str, Any] = {"automargin": True, "gridcolor": FAINT, "linecolor": FAINT, "zerolinecolor": FAINT, "zerolinewidth": 2, "ticks": "",
                        "title": {"standoff": 15}}
LEAN: dict[str, Any] = {"layout": {"xaxis": AXIS, "yaxis": AXIS, "hovermode": "closest", "hoverlabel": {"align": "left"},
                                   "annotationdefaults": {"showarrow": False, "font": {"size": 11}}}}
BARE: dict[str, Any] = {"showgrid": False, "zeroline": False, "fixedrange": True}


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


def visible(text: str, long: int = LONG) -> str:
    """A token to be read: blanks are made visible, a very long one is cut."""
    text = text.replace("\n", "⏎").strip() or "␣"
    return text if len(text) <= long else text[: long - 1] + "…"


def label(event: TraceMap, token: int) -> str:
    """A token as a label: a star marks the subject."""
    begin, end = event.subject
    text = visible(event.tokens[token])
    return f"{text} *" if begin <= token < end else text


def exact(event: TraceMap) -> np.ndarray:
    """The cells that were run: NaN in those that are blank yet, or hold an approximation."""
    found = event.effect.copy()
    found[list(event.pending)] = np.nan
    return found


def scale_end(event: TraceMap) -> tuple[float, float]:
    """Where the colours begin and end: from 0, or what lies below it, to the largest effect. Approximations may lie beyond."""
    found = (run := exact(event))[~np.isnan(run)]
    return float(min(0.0, found.min(initial=0.0))), float(max(0.05, event.total_effect, found.max(initial=0.0)))


def headline(event: TraceMap) -> list[str]:
    """The lines over the map, always three: what was asked, and what the corruption took away."""
    asked = f"{event.prompt} → {event.answer}".replace("\n", "⏎")
    if len(asked) > WIDE:  # the end of a long prompt, from a whole word on, with the answer
        asked = f"… {(tail := asked[2 - WIDE:]).partition(' ')[2] or tail}"
    return [f"<b>{escaped(asked)}</b>", escaped(terms.measured(event)), terms.total(event)]


@draw.register
def _(event: TraceMap) -> go.Figure:
    """Tokens from top to bottom, layers from left to right; blank where nothing is known yet, faint where no more than an approximation is."""
    rows, (begin, end), (low, high) = list(range(len(event.tokens))), event.subject, scale_end(event)
    names = [("≈ " if r in event.pending else "") + escaped(label(event, r)) for r in rows]
    places = [terms.place(event, c) for c in range(len(event.layers))]
    guess = np.where(np.isin(rows, event.pending)[:, None], event.effect, np.nan)
    about: dict[str, Any] = {"x": list(event.layers), "y": rows, "colorscale": SCALE, "zmin": low, "zmax": high, "xgap": 2, "ygap": 2,
                             "hoverongaps": False, "colorbar": bar(len(rows)),
                             "text": [[f"<b>{name}</b>, {place}" for place in places] for name in names]}
    figure = go.Figure(go.Heatmap(z=exact(event), customdata=event.effect_se, **about,
                                  hovertemplate="%{text}<br>effect %{z:.3f} ± %{customdata:.3f}<extra></extra>"))
    if event.pending:
        figure.add_trace(go.Heatmap(z=guess, opacity=0.45, showscale=len(event.pending) == len(rows), **about,
                                    hovertemplate="%{text}<br>about %{z:.3f}, not run yet<extra></extra>"))
    mark = {"type": "rect", "name": "subject", "xref": "paper", "x0": 0, "x1": 0, "y0": begin - 0.45, "y1": end - 0.55,
            "line": {"color": GOLD, "width": 5}, "layer": "above"}
    cut = [{"type": "rect", "name": "edge", "x0": event.layers[a] - 0.5, "x1": event.layers[b] + 0.5, "y0": -0.5, "y1": len(rows) - 0.5,
            "line": {"color": EDGE, "width": 1.5, "dash": "dot"}, "layer": "above"} for a, b in terms.edges(event)]
    figure.update_layout(xaxis={"tickmode": "array", "tickvals": thinned(event.layers), **BARE}, shapes=[mark, *cut], yaxis=down(names))
    return headed(figure, [*headline(event), *facts((terms.score(event), terms.rerouted(event)))], ROW * len(rows), terms.restored(event), 52, BARRED)


@draw.register
def _(event: Grid) -> go.Figure:
    """Rows from top to bottom; words in the cells where there are some. Where zero is the middle, it has the colour of the ground."""
    found = event.value[~np.isnan(event.value)]
    far = float(np.abs(found).max(initial=0.0)) or 1.0
    low, high = (-far, far) if event.diverging else (float(found.min(initial=0.0)), float(found.max(initial=0.0)) or 1.0)
    rows, columns = range(len(event.rows)), range(len(event.columns))
    told = [["" if np.isnan(event.value[r, c]) else hover(event, r, c) for c in columns] for r in rows]  # over a gap nothing is told
    written: dict[str, Any] = {"text": [[escaped(visible(word, NOTE)) if word else "" for word in row] for row in event.notes],
                               "texttemplate": "%{text}"} if event.notes else {}
    figure = go.Figure(go.Heatmap(
        z=event.value, x=list(columns), y=list(rows), customdata=told, hovertemplate="%{customdata}<extra></extra>", hoverongaps=False,
        colorscale=DIVERGING if event.diverging else SCALE, zmin=low, zmax=high, xgap=2, ygap=2, colorbar=bar(len(rows)), **written))
    ticks = thinned(columns) if len(columns) > CROWD or all(name.lstrip("-").isdigit() for name in event.columns) else list(columns)
    names = [escaped(visible(event.columns[c])) for c in ticks]
    figure.update_layout(xaxis={"tickmode": "array", "tickvals": ticks, "ticktext": names, **BARE},
                         yaxis=down([escaped(visible(name, 24)) for name in event.rows]))
    longest = max(map(len, names), default=0)
    tall = longest if longest * len(names) > 28 else 0  # letters of labels that stand upright on a phone
    return headed(figure, [*heading(event.title), *facts((*event.facts, event.unit))], ROW * len(rows), event.column_name, 56 + 6 * tall, BARRED)


def hover(event: Grid, row: int, column: int) -> str:
    """What a cell says when it is pointed at."""
    error, note = event.error[row, column], event.notes[row][column] if event.notes else ""
    lines = [f"<b>{escaped(visible(event.rows[row], 40))}</b>, {event.column_name} {escaped(visible(event.columns[column], 40))}",
             f"{event.value[row, column]:.4g}" + ("" if np.isnan(error) else f" ± {error:.2g}"), escaped(note or "")]
    return "<br>".join(line for line in lines if line)


@draw.register
def _(event: Curves) -> go.Figure:
    """Lines told apart by colour and by dashes, each in its band of error."""
    figure = go.Figure()
    for i, name in enumerate(event.lines):
        colour, value, error = LINES[i % len(LINES)], event.value[i], event.error[i]
        if (known := ~np.isnan(value + error)).any():
            x, low, high = event.x[known], (value - error)[known], (value + error)[known]
            figure.add_trace(go.Scatter(x=np.concatenate([x, x[::-1]]), y=np.concatenate([high, low[::-1]]), fill="toself", fillcolor=colour,
                                        opacity=0.18, line={"width": 0}, mode="lines", hoverinfo="skip", showlegend=False, name=name))
        figure.add_trace(go.Scatter(
            x=event.x, y=value, customdata=["" if np.isnan(e) else f" ± {e:.2g}" for e in error], name=escaped(name), mode="lines+markers",
            line={"color": colour, "width": 2, "dash": DASHES[(i + i // len(LINES)) % len(DASHES)]}, marker={"size": 5},
            hovertemplate=f"<b>{escaped(name)}</b><br>%{{y:.3g}}%{{customdata}} at %{{x}}<extra></extra>"))
    unit = "<br>".join(escaped(part) for part in textwrap.wrap(event.unit, WIDE))
    figure.update_layout(xaxis=RULED, yaxis={**RULED, "title": {"text": unit, "font": {"size": 13}}},
                         legend={"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom", "font": {"size": 12}})
    side = 1 if max(map(len, event.lines), default=0) > 13 else 2  # names that a phone, or half a page, has room for on a line
    above = 34 if len(event.lines) < 4 else 16 + 19 * -(-len(event.lines) // side)
    return headed(figure, [*heading(event.title), *facts(event.facts)], 300, event.x_name, 52, above)


@draw.register
def _(event: Scatter) -> go.Figure:
    """Points, with the diagonal on which both axes agree where they measure one quantity. Groups differ in colour and in shape."""
    figure, names = go.Figure(), list(dict.fromkeys(event.groups)) or [""]
    for i, group in enumerate(names):
        mine = [p for p in range(len(event.labels)) if not event.groups or event.groups[p] == group]
        figure.add_trace(go.Scatter(
            x=event.x[mine], y=event.y[mine], mode="markers", text=[escaped(event.labels[p]) for p in mine], name=escaped(group), showlegend=bool(group),
            marker={"size": 8, "color": LINES[i % len(LINES)], "symbol": SHAPES[i % len(SHAPES)], "opacity": 0.65, "line": {"width": 0}},
            hovertemplate="<b>%{text}</b><br>" + f"{event.x_name}: %{{x:.4g}}<br>{event.y_name}: %{{y:.4g}}<extra></extra>"))
    both = np.concatenate([event.x, event.y])
    ends = [float(np.nanmin(both)), float(np.nanmax(both))] if event.same and not np.isnan(both).all() else [0.0, 0.0]
    shapes = [{"type": "line", "name": "same", "x0": ends[0], "y0": ends[0], "x1": ends[1], "y1": ends[1], "layer": "below",
               "line": {"color": GOLD, "width": 1.5, "dash": "dash"}}] if event.same else []
    figure.update_layout(shapes=shapes, xaxis=RULED, yaxis={**RULED, "title": {"text": event.y_name, "font": {"size": 13}}})
    lines = -(-len(names) // (2 if max(map(len, names)) < 16 else 1)) if event.groups else 0  # of the legend, on a phone
    figure.update_layout(legend={"orientation": "h", "x": 0, "y": 1.01, "yanchor": "bottom", "font": {"size": 12}})
    return headed(figure, [*heading(event.title), *facts(event.facts)], 340, event.x_name, 52, 14 + 19 * lines)


def escaped(text: str) -> str:
    return html.escape(text, quote=False)


def heading(text: str) -> list[str]:
    return [f"<b>{escaped(part)}</b>" for part in textwrap.wrap(text.replace("\n", "⏎"), WIDE)]


def facts(texts: tuple[str, ...]) -> list[str]:
    """Lines of small type, broken to the width of a phone."""
    return [f'<span style="font-size:12px">{escaped(part)}</span>' for text in texts for part in textwrap.wrap(text, FINE)]


def thinned(columns: Any) -> list[int]:
    return list(columns)[:: max(1, len(columns) // MANY)]


def down(names: list[str]) -> dict[str, Any]:
    """An axis of named rows, the first at the top."""
    return {"tickmode": "array", "tickvals": list(range(len(names))), "ticktext": names, "range": [len(names) - 0.5, -0.5], "ticklabelstandoff": 8,
            **BARE}


def bar(rows: int) -> dict[str, Any]:
    """The scale of colours, between the title, whose last line says what it measures, and the cells.

    Anchored in its middle, with no title: to one that stands on the cells, or has a title, Plotly would make room by moving all other titles.
    """
    return {"orientation": "h", "thickness": 9, "y": 1 + 22 / (ROW * rows), "yanchor": "middle", "x": 0.0, "xanchor": "left", "len": 1.0, "xpad": 0,
            "outlinewidth": 0, "ypad": 8, "tickfont": {"size": 11}, "nticks": 5}


def headed(figure: go.Figure, lines: list[str], body: int, below: str, foot: int, above: int) -> go.Figure:
    """`figure` under the lines of its title: `body` pixels of drawing, `above` and `foot` for what stands over and under it."""
    top = LINE * len(lines) + 10 + above
    height = top + body + foot
    figure.update_layout(
        title={"text": "<br>".join(lines), "font": {"size": 14}, "x": 0.0, "xref": "container", "xanchor": "left", "yref": "container",
               "yanchor": "top", "y": 1 - 16 / height, "pad": {"l": 4}},
        xaxis_title={"text": escaped(below), "font": {"size": 13}, "standoff": 6}, height=height, margin={"l": 8, "r": 14, "t": top, "b": foot})
    return plain(figure)


def plain(figure: go.Figure) -> go.Figure:
    """Transparent, so that the page's own light or dark shows through, in the page's own type."""
    pointed = {"bgcolor": NIGHT, "bordercolor": FAINT, "font": {"color": PAPER}}
    figure.layout.template = LEAN
    return figure.update_layout(paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", autosize=True, xaxis={"automargin": True},
                                yaxis={"automargin": True}, hoverlabel=pointed, font={"color": INK, "family": "system-ui, sans-serif", "size": 13})


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


from panels import draw_attention, draw_items, draw_pictures, draw_unlearning  # noqa: E402, F401  they register the figures of their events
