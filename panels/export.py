"""A run as files: its JSON, which can be run again, and its figures' numbers as CSV."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from functools import singledispatch
from pathlib import Path

import numpy as np

from lab.events import TraceMap
from lab.runs import Run


@singledispatch
def table(event: object) -> list[list[object]]:
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
    """A cell that a spreadsheet would read as a formula is made text."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerows([[f"'{c}" if isinstance(c, str) and c.startswith(("=", "@", "+")) else c for c in line] for line in table(event)])
    return out.getvalue()


def files(run: Run, name: str) -> tuple[str, str]:
    """Paths of the JSON and the CSV of `run`, in a folder of their own."""
    folder = Path(tempfile.mkdtemp(prefix="mnemoscope-"))
    run.save(folder / f"{name}.json")
    (folder / f"{name}.csv").write_text(as_csv(run.result), newline="")
    return str(folder / f"{name}.json"), str(folder / f"{name}.csv")


def parse(text: str) -> object:
    """JSON that a visitor gave; raises `ValueError` where it is none."""
    return json.loads(text)
