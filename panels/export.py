"""A figure's numbers as CSV."""

from __future__ import annotations

import csv
import io
from functools import singledispatch
from typing import Any

import numpy as np

from lab.events import Curves, Grid, Scatter, TraceMap
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
    return [["label", "x", "y"], *points]


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
