"""The figure of a map of attention: tokens by tokens, a window of a long text, and what every head does in short."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from lab.events import AttentionMap
from panels.draw import BARE, FINE, down, draw, escaped, facts, heading, plain, visible
from panels.theme import DIVERGING, EDGE, GOLD, LINES, SCALE

SHORT, LABELS = 9, 26  # letters of a token's label, and labels that an axis has room for
TALL, LOW, THIN = 22, 12, 6  # pixels of a row of cells: of few tokens, of more, of many
GAP, FOOT = 94, 62  # pixels between two maps, and under the last
SMALL = {"size": 11}


@draw.register
def _(event: AttentionMap) -> go.Figure:
    """Queries from top to bottom, keys from left to right; small weights get more of the colours than large ones, so that a sink does not hide them."""
    maps = [(event.weight, list(event.parts), list(event.parts), "the token that is read; rows are those that read it")]
    if event.detail.size:
        rows, columns = event.detail.shape
        query, key = event.detail_from
        name = f"{query} to {query + rows - 1} read {key} to {key + columns - 1}, colours of their own"
        maps.append((event.detail, [(query + i, query + i + 1) for i in range(rows)], [(key + i, key + i + 1) for i in range(columns)], name))
    title = [*heading(event.title), *legend(event), *facts((*event.facts, event.unit))]
    bodies = [len(rows) * tall(len(rows)) for _, rows, _, _ in maps] + [max(40, 16 * event.sink.shape[1])]
    top = 20 * len(title) + 54
    body = sum(bodies) + GAP * (len(bodies) - 1)
    figure, shapes, at = go.Figure(), [], 1.0
    for i, ((weight, rows, columns, name), height) in enumerate(zip(maps, bodies, strict=False)):
        place = "" if i == 0 else str(i + 1)
        domain = (at - height / body, at)
        at = domain[0] - GAP / body
        figure.add_trace(go.Heatmap(**cells(event, weight, rows, columns), xaxis=f"x{place}", yaxis=f"y{place}", **scale(event, weight, i == 0, body)))
        lay(figure, event, place, rows, columns, name, domain)
        shapes += marks(event, place, rows, columns)
    shapes += heads(figure, event, len(maps), (0.0, bodies[-1] / body))
    height = top + body + FOOT
    figure.update_layout(
        title={"text": "<br>".join(title), "font": {"size": 14}, "x": 0.0, "xref": "container", "xanchor": "left", "yref": "container", "yanchor": "top",
               "y": 1 - 16 / height, "pad": {"l": 4}}, shapes=shapes, height=height, margin={"l": 8, "r": 14, "t": top, "b": FOOT})
    return plain(figure)


def tall(rows: int) -> int:
    """Pixels of a row of cells."""
    return TALL if rows <= 16 else LOW if rows <= 40 else THIN


def legend(event: AttentionMap) -> list[str]:
    """The segments, each in its colour, broken to the width of a phone."""
    lines, used = [[]], 0  # type: ignore[var-annotated]
    for i, name in enumerate(event.segments):
        if used and used + len(name) + 3 > FINE:
            lines, used = [*lines, []], 0
        lines[-1].append(f'<span style="color:{colour(i)}">■</span> {escaped(visible(name, 24))}')
        used += len(name) + 3
    return [f'<span style="font-size:12px">{"  ".join(line)}</span>' for line in lines if line] if len(event.segments) > 1 else []


def colour(segment: int) -> str:
    return LINES[segment % len(LINES)]


def named(event: AttentionMap, part: tuple[int, int], long: int = SHORT) -> str:
    """A part in words: a token, or the first of several and how many follow."""
    first = visible(event.tokens[part[0]], long)
    return escaped(first if part[1] - part[0] == 1 else f"{first} +{part[1] - part[0] - 1}")


def cells(event: AttentionMap, weight: np.ndarray, rows: list[tuple[int, int]], columns: list[tuple[int, int]]) -> dict[str, Any]:
    """The cells, with later tokens, that cannot be read, left blank; the words say who reads whom."""
    later = np.array([[column[0] >= row[1] for column in columns] for row in rows])
    across = [whole(event, part) for part in columns]
    told = [[f"<b>{whole(event, row)}</b> → <b>{to}</b>" for to in across] for row in rows]
    form = "%{z:+.4f}" if event.diverging else "%{z:.4f}"
    return {"z": np.where(later & (np.nan_to_num(weight) == 0), np.nan, weight), "x": list(range(len(columns))), "y": list(range(len(rows))),
            "customdata": told, "hovertemplate": "%{customdata}<br>weight " + form + "<extra></extra>", "hoverongaps": False, "xgap": int(len(columns) <= 24),
            "ygap": int(len(rows) <= 24)}


def whole(event: AttentionMap, part: tuple[int, int]) -> str:
    """Its place and its words, for who points at it."""
    begin, end = part
    text = visible("".join(event.tokens[begin:end]), 40)
    return f"{begin}{'' if end - begin == 1 else f'–{end - 1}'} {escaped(text)}"


def scale(event: AttentionMap, weight: np.ndarray, first: bool, body: int) -> dict[str, Any]:
    """Colours up to the largest weight; of many tokens, up to the largest but for one in a hundred, as the first ones have few to choose from."""
    found = np.abs(weight[~np.isnan(weight) & (weight != 0)])
    far = float(np.quantile(found, 0.99 if len(weight) > 24 else 1.0)) if len(found) else 1.0
    shown: dict[str, Any] = {"showscale": first, "colorbar": {
        "orientation": "h", "thickness": 9, "y": 1 + 22 / body, "yanchor": "middle", "x": 0.0, "xanchor": "left", "len": 1.0, "xpad": 0, "outlinewidth": 0,
        "ypad": 8, "tickfont": SMALL, "nticks": 5}}
    return shown | ({"colorscale": DIVERGING, "zmin": -far, "zmax": far} if event.diverging else {"colorscale": stretched(), "zmin": 0.0, "zmax": far})


def stretched() -> list[tuple[float, str]]:
    """The scale of all maps, bent: half of its colours are for the lowest quarter of the weights."""
    steps = np.linspace(0, 1, 33)
    return [(float(step**2), str(name)) for step, name in zip(steps, sample_colorscale(SCALE, steps.tolist()), strict=True)]


def lay(figure: go.Figure, event: AttentionMap, place: str, rows: list[tuple[int, int]], columns: list[tuple[int, int]], name: str,
        domain: tuple[float, float]) -> None:
    """The axes of a map: as many names as there is room for."""
    every = max(1, -(-len(rows) // LABELS))
    across = max(1, -(-len(columns) // LABELS))
    side = down([named(event, row) if i % every == 0 else "" for i, row in enumerate(rows)])
    figure.update_layout({
        f"yaxis{place}": {**side, "domain": domain, "anchor": f"x{place}", "tickfont": SMALL, "ticklabelstandoff": 10},
        f"xaxis{place}": {"tickmode": "array", "tickvals": list(range(0, len(columns), across)), "tickangle": -60, "tickfont": SMALL, "anchor": f"y{place}",
                          "ticktext": [named(event, c) for c in columns[::across]], "title": {"text": escaped(name), "font": {"size": 12}, "standoff": 2},
                          "range": [-0.5, len(columns) - 0.5], "side": "bottom", **BARE}})


def marks(event: AttentionMap, place: str, rows: list[tuple[int, int]], columns: list[tuple[int, int]]) -> list[dict[str, Any]]:
    """A bar beside the queries, and one over the keys, in the colours of the segments."""
    if len(event.segments) < 2:
        return []
    found = []
    for axis, parts in (("y", rows), ("x", columns)):
        of = [event.segment_of[part[0]] for part in parts]
        ends = [0, *(i for i in range(1, len(of)) if of[i] != of[i - 1]), len(of)]
        for a, b in pairwise(ends):
            along = {f"{axis}0": a - 0.4, f"{axis}1": b - 0.6, f"{axis}ref": f"{axis}{place}"}
            other = {"x0": 0, "x1": 0, "xref": f"x{place} domain"} if axis == "y" else {"y0": 1, "y1": 1, "yref": f"y{place} domain"}
            found.append({"type": "rect", "name": "segment", **along, **other, "line": {"color": colour(of[a]), "width": 4}, "layer": "above"})
    return found


def heads(figure: go.Figure, event: AttentionMap, maps: int, domain: tuple[float, float]) -> list[dict[str, Any]]:
    """Entropy, and the share on the first token, of every head in every layer; a frame around what the map shows."""
    shapes = []
    for i, (value, name, form) in enumerate(((event.entropy, "entropy, nats", ".2f"), (event.sink, "share on the first token", ".0%"))):
        place = str(maps + 1 + i)
        layers, count = range(len(event.layers)), range(value.shape[1])
        told = [[f"<b>layer {event.layers[j]}, head {h}</b>" for j in layers] for h in count]
        figure.add_trace(go.Heatmap(
            z=value.T, x=list(layers), y=list(count), xaxis=f"x{place}", yaxis=f"y{place}", customdata=told, showscale=False, xgap=1, ygap=1,
            hovertemplate=f"%{{customdata}}<br>{name} %{{z:{form}}}<extra></extra>", hoverongaps=False, colorscale=DIVERGING if event.diverging else SCALE,
            **({"zmid": 0.0} if event.diverging else {"zmin": 0.0})))
        every = max(1, -(-len(event.layers) // 6))
        figure.update_layout({
            f"xaxis{place}": {"domain": (0.56 * i, 0.44 + 0.56 * i), "anchor": f"y{place}", "tickmode": "array", "tickvals": list(layers)[::every],
                              "ticktext": [str(layer) for layer in event.layers[::every]], "tickfont": SMALL,
                              "title": {"text": f"{name}<br>by layer", "font": {"size": 12}, "standoff": 4}, **BARE},
            f"yaxis{place}": {**down([f"head {h}" if i == 0 else str(h) for h in count]), "domain": domain, "anchor": f"x{place}", "tickfont": SMALL,
                              "ticklabelstandoff": 2}})
        if event.layer in event.layers:
            column = event.layers.index(event.layer)
            low, high = (-0.5, value.shape[1] - 0.5) if event.head < 0 else (event.head - 0.5, event.head + 0.5)
            shapes.append({"type": "rect", "name": "shown", "xref": f"x{place}", "yref": f"y{place}", "x0": column - 0.5, "x1": column + 0.5,
                           "y0": low, "y1": high, "line": {"color": GOLD if not event.diverging else EDGE, "width": 2}, "layer": "above"})
    return shapes
