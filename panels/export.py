"""A figure's numbers as CSV."""

from __future__ import annotations

import csv
import io
from functools import singledispatch

import numpy as np

from lab.events import TraceMap


@singledispatch
def table(event: object) -> list[list[object]]:
    """The rows of the table, the names of its columns first."""
    raise TypeError(f"no table for {type(event).__name__}: add one to panels/export.py with @table.register")


@table.register
def _(event: TraceMap) -> list[list[object]]:
    """One line a cell; a cell that was not computed has an empty effect."""
    begin, end = event.subject
    lines: list[list[object]] = [["position", "token", "subject", "layer", "effect", "effect_se"]]
    for (row, column), value in np.ndenumerate(event.effect):
        numbers = ["", ""] if np.isnan(value) else [repr(float(value)), repr(float(event.effect_se[row, column]))]
        lines.append([row, event.tokens[row], int(begin <= row < end), event.layers[column], *numbers])
    return lines


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
