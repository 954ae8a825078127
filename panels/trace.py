"""Where does it live? The causal trace of one fact, live."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from lab import runs
from models import catalog
from panels import cell, picker
from panels.runner import Desk, desk

TITLE, ORDER = "Trace", 10
EXAMPLE = Path(__file__).parents[1] / "assets" / "gallery" / "trace-france.json"

HOW = """
**How to read this.** The network reads the sentence token by token (rows) and works through its layers (columns). We add noise to the subject,
marked \\*, until the answer is lost. Then we run the noisy sentence again, once for each cell, and put back **one** state from the clean run.
Bright means: this state alone brought the answer back, so the fact passed through here. Dark means it did not.
"""
MORE = """
*Total effect* is how much probability the noise took away; a cell's *effect* is how much of it came back, averaged over the noise samples. The standard
error says how far another draw of noise might move it. The rows before the subject are 0 because nothing there saw the noise. The bright lower right
corner is no surprise: there the answer is about to be spoken. A bright cell **at the subject** is the interesting one: the network looked the fact up
before it was asked for the answer.

A trace shows where restoring *suffices*. It does not show that the fact is stored there and nowhere else, nor that editing there would change it.
Method: Meng et al. 2022, *Locating and Editing Factual Associations in GPT* (arXiv 2202.05262).
"""


def build() -> Desk:
    names = [(f"{e.title} ({e.name})" if e.kind == "organism" else e.name, e.name) for e in catalog.entries()]
    first = runs.load(EXAMPLE) if EXAMPLE.is_file() else None
    with gr.Row(elem_classes="page"):
        with gr.Column(scale=2, min_width=340):
            gr.Markdown("## Where does a fact live?")
            model = gr.Dropdown(names, value="scribe", allow_custom_value=True, label="model", elem_id="trace-model",
                                info="A bundled organism, any Hugging Face id, or a folder on this machine")
            facts = gr.Dropdown(fact_names("scribe"), value=None, label="known facts", info="Fills in the rest", elem_id="trace-facts")
            work = desk("trace.causal", model)
            work.controls(["prompt"])
            tokens = picker.buttons("trace-tokens", "tokens")
            work.controls(["subject", "answer"])
            answers = picker.buttons("trace-answers", "answers")
            with gr.Accordion("Noise and samples", open=False):
                work.controls()
            work.buttons()
        with gr.Column(scale=3, min_width=340):
            work.figure(first)
            cell.build(work)
            gr.Markdown(HOW, elem_classes="explain")
            with gr.Accordion("More about the method", open=False):
                gr.Markdown(MORE)
    work.connect()
    connect(work, facts, tokens, answers)
    return work


def fact_names(model: str) -> list[tuple[str, int]]:
    return [(f"{f['subject']}: {f['relation']} → {f['answer']}", i) for i, f in enumerate(picker.known_facts(model))]


def connect(work: Desk, facts: gr.Dropdown, tokens: gr.HTML, answers: gr.HTML) -> None:
    """What the fields of the page do to each other."""
    prompt, subject, answer = (work.form[n] for n in ("prompt", "subject", "answer"))
    quiet: Any = {"api_visibility": "private", "show_progress": "hidden"}
    shown = ([work.model, prompt, subject], [tokens, answers])

    def fill(model: str, index: int | None) -> list[object]:
        fact = picker.known_facts(model)[index] if index is not None else {}
        return [fact[n] if fact else gr.skip() for n in ("prompt", "subject", "answer")]

    facts.input(fill, [work.model, facts], [prompt, subject, answer], **quiet).then(picker.describe, *shown, **quiet)
    work.model.input(lambda model: gr.Dropdown(fact_names(model), value=None), work.model, facts, **quiet).then(picker.describe, *shown, **quiet)
    gr.on([prompt.blur, prompt.submit, subject.blur], picker.describe, *shown, **quiet)
    tokens.select(picker.choose, [prompt, subject], subject, **quiet).then(picker.describe, *shown, **quiet)
    answers.select(picker.choose_answer, None, answer, **quiet)
    work.described = lambda event: event.then(picker.describe, *shown, **quiet)
