"""Find: what does it remember? Every item that may have been memorized, against what is measured of it."""

from __future__ import annotations

import gradio as gr

from panels import chosen, closer, rows
from panels.gallery import FOLDER
from panels.runner import Desk, desk
from panels.theme import words

TITLE, ORDER = "Find", 5
FURTHER = ("memorization.completion", "memorization.search", "memorization.curvature")


def build() -> tuple[Desk, list[closer.Fold]]:
    work = desk("memorization.survey", FOLDER / "memorization-survey.json")
    text = words("memorization")
    with gr.Column(elem_classes="page"):
        gr.Markdown(text["head"], elem_classes="head")
        with gr.Row(elem_classes="bench"):
            with gr.Column(scale=4, min_width=340, elem_classes="ask"):
                work.models()
                work.controls(["items"])
                rows.build(work, "items")
                with gr.Column(elem_classes="folds"), gr.Accordion("More", open=False) as fold, gr.Row():
                    work.controls(None, fold)
                work.buttons()
                gr.Markdown(text["how"], elem_classes="explain")
            with gr.Column(scale=6, min_width=340, elem_classes="seen"):
                work.figure()
                work.chosen = chosen.build(work)
        with gr.Row(elem_classes="bench"):
            for title in ("The measures", "What it does not show"):
                with gr.Column(min_width=340), gr.Accordion(title, open=False):
                    gr.Markdown(text[title.lower()])
        gr.Markdown(text["closer"], elem_id="memorization-closer")
        with gr.Column(elem_classes="folds"):
            further = closer.build(work, FURTHER)
    work.connect()
    work.offer()
    return work, further
