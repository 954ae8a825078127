"""Attention: who reads whom, and whether it matters."""

from __future__ import annotations

import gradio as gr

from panels import closer, pair, segments
from panels.gallery import FOLDER
from panels.runner import Desk, desk
from panels.theme import words

TITLE, ORDER = "Attention", 15
FOLDS = {"Which head": ["layer", "head", "variant", "mask_first"], "Segments of the text": ["segments", "marker"], "A window of a long text": ["query", "key"]}


def build() -> tuple[Desk, list[closer.Fold]]:
    work = desk("attention.map", FOLDER / "attention-map.json")
    text = words("attention")
    with gr.Column(elem_classes="page"):
        gr.Markdown(text["head"], elem_classes="head")
        with gr.Row(elem_classes="bench"):
            with gr.Column(scale=4, min_width=340, elem_classes="ask"):
                work.models()
                work.controls(["prompt"])
                marks = segments.build(work)
                work.controls(["answer"])
                with gr.Column(elem_classes="folds"):
                    for title, names in [*FOLDS.items(), ("More", None)]:
                        if work.left(names):
                            with gr.Accordion(title, open=title == "Which head") as fold, gr.Row():
                                work.controls(names, fold)
                work.buttons()
            with gr.Column(scale=6, min_width=340, elem_classes="seen"):
                work.figure()
                pair.build(work)
        with gr.Row(elem_classes="bench"):
            gr.Markdown(text["how"], elem_classes="explain")
            with gr.Column(min_width=340):
                for title in ("The numbers", "What it does not show"):
                    with gr.Accordion(title, open=False):
                        gr.Markdown(text[title.lower()])
        segments.connect(work, marks)
        gr.Markdown(text["closer"], elem_id="attention-closer")
        with gr.Column(elem_classes="folds"):
            further = closer.build(work)
    work.connect()
    work.offer()
    return work, further
