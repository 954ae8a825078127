"""The opening page: what the lab is, in two minutes, and the way into a first experiment."""

from __future__ import annotations

import html

import gradio as gr

from lab import runs
from lab.events import TraceMap
from models import catalog
from panels.draw import thumbnail
from panels.gallery import FOLDER
from panels.theme import words

TITLE, ORDER = "Start", 0
COUNTED = {"facts": "facts, real and invented", "passages": "passages of prose", "canaries": "secret codes"}


def build() -> gr.Button:
    """Returns the button that leads to the example."""
    text = words("home")
    with gr.Column(elem_classes="page"):
        with gr.Row(elem_classes="bench hero"):
            with gr.Column(scale=6, min_width=340):
                gr.Markdown(text["hero"], elem_classes="claim")
                start = gr.Button("Open the first experiment", variant="primary", size="lg", elem_id="start", elem_classes="lead")
            with gr.Column(scale=5, min_width=340):
                gr.HTML(picture(), elem_classes="picture")
                gr.Markdown(text["caption"], elem_classes="caption")
        with gr.Row(elem_classes="bench cards"):
            for who in ("students", "teachers", "researchers"):
                with gr.Column(min_width=260, elem_classes="card"):
                    gr.Markdown(text[who])
        with gr.Row(elem_classes="bench"):
            with gr.Column(min_width=340):
                gr.Markdown(text["steps"])
            with gr.Column(min_width=340):
                gr.Markdown(text["organisms"])
                gr.HTML(counted("scribe"), elem_classes="counted")
                gr.Markdown(text["oracles"])
    return start


def picture() -> str:
    path = FOLDER / "trace-france.json"
    event = runs.load(path).result if path.is_file() else None
    return thumbnail(event) if isinstance(event, TraceMap) else ""


def counted(organism: str) -> str:
    """What the organism has read, and how often, as its manifest counts it. What it holds back as never read does not count."""
    if not any(e.name == organism for e in catalog.entries()):
        return ""
    about, rows = catalog.manifest(organism), []
    for kind, said in COUNTED.items():
        copies = [sum(c) if isinstance(c := item["copies"], list) else c for item in about.get(kind, [])]
        if read := [c for c in copies if c > 0]:
            rows.append(f"<li><b>{len(read):,}</b> {said}, {min(read)} to {max(read)} times each</li>")
    return f"<p>{html.escape(str(about.get('title', organism)))} has read</p><ul>{''.join(rows)}</ul>" if rows else ""
