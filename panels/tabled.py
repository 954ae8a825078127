"""A table that can be sorted and searched, beside the picture of it."""

from __future__ import annotations

from typing import Any

import gradio as gr

from lab.events import Table
from panels.runner import Desk


def build(work: Desk) -> None:
    """Under the figure of a desk whose runs end with a table: all its rows, and what each column means."""
    first = work.first.result if work.first else None
    table = gr.Dataframe(values(first), interactive=False, show_search="filter", max_height=460, wrap=True, elem_id=f"{work.key}-table", show_label=False)
    words = gr.Markdown(about(first), elem_classes="quiet", elem_id=f"{work.key}-about")
    work.views[table], work.views[words] = values, about


def values(event: Any) -> dict[str, Any] | None:
    """The rows as the component takes them; numbers to four digits, so that they sort as numbers."""
    if not isinstance(event, Table):
        return None
    return {"headers": list(event.columns), "data": [[float(f"{c:.4g}") if isinstance(c, float) else c for c in row] for row in event.rows]}


def about(event: Any) -> str:
    if not isinstance(event, Table):
        return ""
    lines = [f"- **{name}**: {text}" for name, text in zip(event.columns, event.about, strict=True) if text]
    return "\n".join([*lines, *([f"\n{event.missing}"] if event.missing else [])])
