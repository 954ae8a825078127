"""Unlearn: take it out, live, beside a model that never read it."""

from __future__ import annotations

import gradio as gr

from lab.experiment import discover
from panels import closer, overlay, rows, targets
from panels.edits import Workbench
from panels.gallery import FOLDER
from panels.runner import Desk, desk
from panels.theme import words

TITLE, ORDER = "Unlearn", 20
FIRST = "unlearn.grad_diff"
FOLDS = {"What is kept": ["retain", "retain_weight"], "How far": ["until", "lr", "batch", "measure", "snapshot"],
         "Protect what is kept, and large models": ["gu", "gu_history", "lora"]}


def build() -> tuple[Desk, list[closer.Fold]]:
    work = desk(FIRST, FOLDER / "unlearn-grad_diff.json")
    text = words("unlearn")
    with gr.Column(elem_classes="page"):
        gr.Markdown(text["head"], elem_classes="head")
        with gr.Row(elem_classes="bench"):
            with gr.Column(scale=4, min_width=340, elem_classes="ask"):
                work.models()
                targets.build(work)
                rows.build(work, "forget")
                work.controls(["steps"])
                with gr.Column(elem_classes="folds"):
                    for title, names in [*FOLDS.items(), ("More", None)]:
                        if work.left(names):
                            with gr.Accordion(title, open=False) as fold, gr.Row():
                                work.controls(names, fold)
                work.buttons()
                gr.Markdown(text["how"], elem_classes="explain")
            with gr.Column(scale=6, min_width=340, elem_classes="seen"):
                work.figure()
                work.bench = Workbench(work)
        overlay.build(work, text["compare"])
        with gr.Row(elem_classes="bench"):
            for title in ("The ruler", "What it does not show"):
                with gr.Column(min_width=340), gr.Accordion(title, open=False):
                    gr.Markdown(text[title.lower()])
        gr.Markdown(text["closer"], elem_id="unlearn-closer")
        with gr.Column(elem_classes="folds"):
            further = closer.build(work, [*[n for n in discover() if n.startswith("ruler.")], *closer.names(work)])
    work.connect()
    work.bench.connect()
    work.offer()
    return work, further
