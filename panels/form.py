"""Settings as controls, and the messages beside them."""

from __future__ import annotations

import html
from dataclasses import Field
from typing import Any

import gradio as gr

from models.errors import LabError


def control(f: Field, value: Any = None, of: str = "") -> gr.components.Component:
    """What a person changes the setting with. It shows `value`, or the default of the setting. `of` keeps ids apart where a page has several forms."""
    value = f.default if value is None else value
    about: dict[str, Any] = {"label": f.name.replace("_", " ").capitalize(), "info": f.metadata["help"], "elem_id": f"setting-{of}{f.name}",
                             "interactive": True}
    kind, low, high = str(f.type), f.metadata.get("low"), f.metadata.get("high")
    if kind == "bool":
        return gr.Checkbox(value, **about)
    if "choices" in f.metadata:
        return gr.Dropdown(list(f.metadata["choices"]), value=value, **about)
    if kind == "str":
        return gr.Textbox(value, lines=f.metadata.get("lines", 1), **about)
    if low is not None and high is not None and high < 2**31 - 1:
        about["info"] += f". From {low:g} to {high:g}"
    return gr.Number(value, **about)  # without the bounds: Gradio would report a value outside them far from the control


def message(name: str) -> gr.HTML:
    """Room for what is wrong with the control above it; takes none while nothing is."""
    return gr.HTML(visible=False, elem_classes=["fault", f"fault-{name}"])


def fault(error: LabError) -> Any:
    """An update that shows `error` in a `message`."""
    return gr.update(value=f'<p role="alert">{html.escape(str(error))}</p>', visible=True)


def clear() -> Any:
    """An update that empties a `message`."""
    return gr.update(value="", visible=False)
