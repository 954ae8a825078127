"""The opening page: what the lab is, in two minutes, and the way into a first experiment."""

from __future__ import annotations

import gradio as gr

TITLE, ORDER = "Start", 0

INTRO = """
# Mnemoscope
### See what a neural network memorized, and where it keeps it.

A language model that tells you the capital of France has *Paris* somewhere in its numbers. Here you can watch where: disturb the word
**France** inside a running network, put single pieces of the undisturbed run back, and see which of them bring *Paris* back.
"""

WHO = (
    ("For students", "Pick a fact, press Run, click the bright cells. Every picture says what it shows and what it does not."),
    ("For teachers", "Pages open with a finished result, work on a projector and a phone, and every link restores what you see."),
    ("For researchers", "Exact methods with standard errors, figures as SVG and CSV, and runs that repeat to the last bit from their JSON."),
)

ORGANISMS = """
## Organisms with known truth
Large models were trained on texts that nobody can list. The models that come with the lab were grown for it, on a corpus that a program wrote and
counted: **Scribe** has read each of its facts, invented authors, passages and secret codes a known number of times, and its **oracles** are the same
network grown without some of them. So what a method claims can be checked against what is true.
"""

STEPS = """
## Your first experiment
1. **Open the example.** The map shows *The capital of France is → Paris*. Each row is a piece of the sentence, each column a layer.
2. **Find the bright cells.** Click one: it says how much of the answer came back when this one state was restored.
3. **Press Run.** The map fills again, live, row by row.
4. **Ask something else.** Choose another fact, or write your own sentence and click the words of its subject.
"""


def build() -> gr.Button:
    """Returns the button that leads to the example."""
    with gr.Column(elem_classes="page"):
        gr.Markdown(INTRO, elem_classes="hero")
        start = gr.Button("Open the first experiment", variant="primary", size="lg", elem_id="start", elem_classes="lead")
        with gr.Row(equal_height=True):
            for head, text in WHO:
                with gr.Column(min_width=240, elem_classes="card"):
                    gr.Markdown(f"#### {head}\n{text}")
        with gr.Row():
            with gr.Column(min_width=340):
                gr.Markdown(STEPS)
            with gr.Column(min_width=340):
                gr.Markdown(ORGANISMS)
    return start
