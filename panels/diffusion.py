"""Pictures: which training pictures come back, what brings them back, and how to stop it."""

from __future__ import annotations

import gradio as gr

from panels import closer, picture
from panels.edits import Workbench
from panels.gallery import FOLDER
from panels.runner import Desk, desk
from panels.theme import words

TITLE, ORDER = "Pictures", 25
FOLDS = {"How it is drawn": ["guidance", "steps"], "Compare with a picture of your own": ["picture"]}


def build() -> tuple[Desk, list[closer.Fold]]:
    work = desk("diffusion.generate", FOLDER / "diffusion-generate.json")
    text = words("diffusion")
    with gr.Column(elem_classes="page"):
        gr.Markdown(text["head"], elem_classes="head")
        with gr.Row(elem_classes="bench"):
            with gr.Column(scale=4, min_width=340, elem_classes="ask"):
                work.models()
                work.controls(["prompts", "seeds"])
                with gr.Column(elem_classes="folds"):
                    for title, names in [*FOLDS.items(), ("More", None)]:
                        if work.left(names):
                            with gr.Accordion(title, open=False) as fold, gr.Row():
                                work.controls(names, fold)
                                if names == ["picture"]:
                                    picture.build(work, "picture")
                work.buttons()
                gr.Markdown(text["how"], elem_classes="explain")
            with gr.Column(scale=6, min_width=340, elem_classes="seen"):
                work.figure()
                work.bench = Workbench(work)
        with gr.Row(elem_classes="bench"):
            for title in ("What counts as a copy", "What it does not show"):
                with gr.Column(min_width=340), gr.Accordion(title, open=False):
                    gr.Markdown(text[title.lower()])
        gr.Markdown(text["closer"], elem_id="diffusion-closer")
        with gr.Column(elem_classes="folds"):
            further = closer.build(work)
    work.connect()
    work.bench.connect()
    work.offer()
    return work, further
