"""Texts of a visitor's own: a file is read, checked and put into the setting that takes rows, so that the run can be repeated from its record."""

from __future__ import annotations

import html
from typing import Any

import gradio as gr

from lab import items
from models.errors import BadInput, LabError
from panels import form
from panels.runner import QUIET, Desk

MOST = 2**20  # bytes of a file
KINDS = [".jsonl", ".csv", ".txt"]


def build(work: Desk, setting: str) -> None:
    """A button that fills the control of `setting` from a file; what is wrong with the file is said beside that control."""
    with gr.Row(elem_classes="exports"):
        upload = gr.UploadButton("Use texts of my own: JSONL, CSV or TXT", size="sm", file_types=KINDS, type="binary", elem_id=f"{work.key}-rows-{setting}")
    note = gr.HTML("", elem_classes="quiet", elem_id=f"{work.key}-rows-{setting}-note")

    def read(file: bytes) -> dict[Any, Any]:
        try:
            text = decoded(file, setting)
            found = items.rows(text, setting=setting)
        except LabError as error:
            return {work.faults[setting]: form.fault(error), note: ""}
        first = html.escape(found[0].label)
        return {work.form[setting]: f"rows:\n{text.strip()}", work.faults[setting]: form.clear(),
                note: f"<p>{len(found)} rows; the first is “{first}”. Press Run.</p>"}

    upload.upload(read, upload, [work.form[setting], work.faults[setting], note], **QUIET)


def decoded(file: bytes, setting: str) -> str:
    """The text of a file. Raises `BadInput` where it is none, or too large."""
    if len(file) > MOST:
        raise BadInput(f"the file has {len(file) / 2**20:.1f} MB", f"up to {MOST // 2**20} MB are taken", "Choose the rows that matter", setting=setting)
    if file[:2] == b"\x80\x04" or file[:2] == b"PK" or b"\x00" in file[:4096]:
        raise BadInput("this file is no text", "it is a pickle, an archive, a picture or another binary file; none of these is ever opened",
                       "Save the rows as JSONL, CSV or plain text", setting=setting)
    try:
        return file.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput("this file is no text in UTF-8", str(error)[:80], "Save it as UTF-8", setting=setting) from error
