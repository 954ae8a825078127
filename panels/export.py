"""A figure's numbers as CSV."""

from __future__ import annotations

import csv
import io
from functools import singledispatch
from typing import Any

import numpy as np

from lab.events import AttentionMap, Completion, Curves, Grid, Pictures, Scatter, Survey, Table, TraceMap, Unlearning
from panels.draw import exact


@singledispatch
def table(event: object) -> list[list[object]]:
    """The rows of the table, the names of its columns first."""
    raise TypeError(f"no table for {type(event).__name__}: add one to panels/export.py with @table.register")


@table.register
def _(event: TraceMap) -> list[list[object]]:
    """One line a cell; a cell that was not run has an empty effect, also where its approximation is known."""
    begin, end = event.subject
    lines: list[list[object]] = [["position", "token", "subject", "layer", "effect", "effect_se", "approximation"]]
    for (row, column), value in np.ndenumerate(exact(event)):
        numbers = ["", ""] if np.isnan(value) else [filled(value), filled(event.effect_se[row, column])]
        place = [row, event.tokens[row], int(begin <= row < end), event.layers[column]]
        lines.append([*place, *numbers, filled(event.approximation[row, column])])
    return lines


@table.register
def _(event: Grid) -> list[list[object]]:
    """One line a cell, its rows and columns by number too: two may have one name."""
    lines: list[list[object]] = [["row", "row_name", "column", "column_name", "value", "error", *(["note"] if event.notes else [])]]
    for (row, column), value in np.ndenumerate(event.value):
        place = [row, event.rows[row], column, event.columns[column]]
        lines.append([*place, filled(value), filled(event.error[row, column]), *([event.notes[row][column]] if event.notes else [])])
    return lines


@table.register
def _(event: Curves) -> list[list[object]]:
    """One line a point of every curve."""
    found: list[list[object]] = [[event.lines[i], filled(event.x[j]), filled(value), filled(event.error[i, j])]
                                 for (i, j), value in np.ndenumerate(event.value)]
    return [["line", "x", "value", "error"], *found]


@table.register
def _(event: Scatter) -> list[list[object]]:
    points: list[list[object]] = [[name, filled(x), filled(y)] for name, x, y in zip(event.labels, event.x, event.y, strict=True)]
    if event.groups:
        return [["label", "x", "y", "group"], *([*point, group] for point, group in zip(points, event.groups, strict=True))]
    return [["label", "x", "y"], *points]


@table.register
def _(event: Table) -> list[list[object]]:
    lines: list[list[object]] = [["" if cell is None else cell for cell in row] for row in event.rows]
    return [list(event.columns), *lines]


@table.register
def _(event: Survey) -> list[list[object]]:
    """One line an item, one column a measure."""
    about = zip(event.items, event.labels, event.kinds, event.splits, event.copies, strict=True)
    lines: list[list[object]] = [[*item[:4], f"{item[4]:.0f}", *map(filled, values)] for item, values in zip(about, event.value, strict=True)]
    return [["item", "label", "kind", "split", "copies", *event.measures], *lines]


@table.register
def _(event: Completion) -> list[list[object]]:
    """One line a token."""
    lines: list[list[object]] = [[i, token, int(i < event.given), filled(event.probability[i]), filled(event.rank[i]), event.likeliest[i]]
                                 for i, token in enumerate(event.tokens)]
    return [["position", "token", "given", "probability", "rank", "likeliest"], *lines]


@table.register
def _(event: Unlearning) -> list[list[object]]:
    """One line a series and step; where the oracles lie stands beside it."""
    lines: list[list[object]] = [[event.groups[s], event.series[s], filled(event.step[i]), filled(value), filled(event.low[s]), filled(event.high[s])]
                                 for (s, i), value in np.ndenumerate(event.value) if not np.isnan(value)]
    return [["group", "series", "step", "value", "oracle_low", "oracle_high"], *lines]


@table.register
def _(event: AttentionMap) -> list[list[object]]:
    """One line a query and key, of the whole map and then of its window; of a part the first token is named, and how many it holds."""
    lines: list[list[object]] = [["map", "query", "query_token", "query_tokens", "key", "key_token", "key_tokens", "weight"]]
    for (row, column), value in np.ndenumerate(event.weight):
        (a, b), (c, d) = event.parts[row], event.parts[column]
        lines.append(["whole", a, event.tokens[a], b - a, c, event.tokens[c], d - c, filled(value)])
    for place, value in np.ndenumerate(event.detail) if event.detail.size else ():
        query, key = event.detail_from[0] + place[0], event.detail_from[1] + place[1]
        lines.append(["window", query, event.tokens[query], 1, key, event.tokens[key], 1, filled(value)])
    return lines


@table.register
def _(event: Pictures) -> list[list[object]]:
    """One line a picture; the pictures themselves stand in the JSON."""
    lines: list[list[object]] = [["frame", "row", "column", "beside", "score", "copy", "label"]]
    for place in np.ndindex(len(event.frames), len(event.rows), len(event.columns)):
        i = event.at(*place)
        beside = event.names[event.beside[i]] if event.beside[i] >= 0 else ""
        lines.append([event.frames[place[0]], event.rows[place[1]], event.columns[place[2]], beside, filled(event.score[i]), int(event.copied()[i]),
                      event.labels[i]])
    return lines


def filled(value: Any) -> str:
    """A number to its last digit; nothing where there is none."""
    return "" if np.isnan(value) else repr(float(value))


def as_csv(event: object) -> str:
    """The table as text. A word that a spreadsheet would run as a formula is quoted with an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    head, *lines = table(event)
    writer.writerow(head)
    writer.writerows([[f"'{c}" if formula(c) else c for c in line] for line in lines])
    return out.getvalue()


def formula(value: object) -> bool:
    return isinstance(value, str) and value.startswith(("=", "@", "+", "-")) and not number(value)


def number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
