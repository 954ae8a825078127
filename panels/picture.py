"""A picture of the visitor's own, sent with the settings of a run."""

from __future__ import annotations

import base64
from typing import Any

import gradio as gr

from lab import png
from models.errors import BadInput, LabError
from panels import form
from panels.runner import QUIET, Desk


def build(work: Desk, setting: str) -> None:
    """A button that puts a picture into the control of `setting`, as text, once it has been opened here without a fault."""
    upload = gr.UploadButton("Choose a picture", size="sm", file_types=["image"], type="binary", elem_id=f"{work.key}-{setting}-upload")
    away = gr.Button("Take it away", size="sm", elem_id=f"{work.key}-{setting}-away")

    def taken(file: bytes) -> dict[Any, Any]:
        try:
            if not file:
                raise BadInput("the file is empty", "it was cut off", "Choose it again", setting=setting)
            text = f"data:image/png;base64,{base64.b64encode(file).decode()}"
            return {work.form[setting]: f"data:image/png;base64,{png.encode(png.read(text, setting))}", work.faults[setting]: form.clear()}
        except LabError as error:
            return {work.faults[setting]: form.fault(error)}

    upload.upload(taken, upload, [work.form[setting], work.faults[setting]], **QUIET)
    away.click(lambda: ("", form.clear()), None, [work.form[setting], work.faults[setting]], **QUIET)
