"""Recall: how far back can it remember, and what does a memory look like at work?"""

from __future__ import annotations

import gradio as gr

from panels import closer, planted
from panels.gallery import FOLDER
from panels.runner import Desk, desk
from panels.theme import words

TITLE, ORDER = "Recall", 30
MEMORIES = ("recall.architectures", "recall.learn")  # nets of their own; the others ask the model that is chosen


def build() -> tuple[Desk, list[closer.Fold]]:
    work = desk("recall.watch", FOLDER / "recall-watch.json")
    text = words("recall")
    with gr.Column(elem_classes="page"):
        gr.Markdown(text["head"], elem_classes="head")
        with gr.Row(elem_classes="bench"):
            with gr.Column(scale=4, min_width=340, elem_classes="ask"):
                work.controls(["memory", "show", "text"])
                planted.build(work)
                with gr.Column(elem_classes="folds"), gr.Accordion("Another text, another net", open=False) as fold, gr.Row():
                    work.controls(None, fold)
                work.buttons()
                gr.Markdown(text["how"], elem_classes="explain")
            with gr.Column(scale=6, min_width=340, elem_classes="seen"):
                work.figure()
        with gr.Row(elem_classes="bench"):
            for title in ("The memories", "What it does not show"):
                with gr.Column(min_width=340), gr.Accordion(title, open=False):
                    gr.Markdown(text[title.lower()])
        gr.Markdown(text["side by side"], elem_id="recall-memories")
        with gr.Column(elem_classes="folds"):
            further = closer.build(work, MEMORIES)
        gr.Markdown(text["closer"], elem_id="recall-closer")
        work.models()
        with gr.Column(elem_classes="folds"):
            further += closer.build(work, [n for n in closer.names(work) if n not in MEMORIES])
    work.connect()
    work.offer()
    return work, further
