"""Where does it live? The causal trace of one fact, live."""

from __future__ import annotations

import gradio as gr

from panels import cell, closer, compare, computed, picker
from panels.gallery import FOLDER
from panels.runner import QUIET, Desk, desk
from panels.theme import words

TITLE, ORDER = "Trace", 10
FOLDS = {"What is restored": ["kind", "window", "preview"],
         "How it is corrupted": ["corruption", "replacement", "noise", "samples", "seed"],
         "How it is scored": ["score", "foil", "normalised"]}


def build() -> tuple[Desk, list[closer.Fold]]:
    work = desk("trace.causal", FOLDER / "trace-france.json")
    text = words("trace")
    with gr.Column(elem_classes="page"):
        gr.Markdown(text["head"], elem_classes="head")
        with gr.Accordion("Your first experiment, in five steps", open=False, elem_id="trace-guide", elem_classes="guide") as work.guide:
            gr.Markdown(text["guide"])
        with gr.Row(elem_classes="bench"):
            with gr.Column(scale=4, min_width=340, elem_classes="ask"):
                facts, tokens, answers = ask(work)
            with gr.Column(scale=6, min_width=340, elem_classes="seen"):
                work.figure()
                cell.build(work)
                computed.build(work)
                work.compared = compare.build(work, text["compare"])
        with gr.Row(elem_classes="bench"):
            gr.Markdown(text["how"], elem_classes="explain")
            with gr.Column(min_width=340):
                for title in ("The numbers", "What it does not show", "The method"):
                    with gr.Accordion(title, open=False):
                        gr.Markdown(text[title.lower()])
        connect(work, facts, tokens, answers)
        gr.Markdown(text["closer"], elem_id="trace-closer")
        with gr.Column(elem_classes="folds"):
            further = closer.build(work)
    work.connect()
    work.offer()
    return work, further


def ask(work: Desk) -> tuple[gr.Dropdown, gr.HTML, gr.HTML]:
    """The left column: which model, which fact, and what to vary."""
    found = picker.on_arrival(work.first.result if work.first else None)  # type: ignore[arg-type]
    work.models()
    facts = gr.Dropdown(fact_names("scribe"), value=first_fact(work), label="A known fact", info="Fills in the three below", elem_id="trace-facts")
    work.controls(["prompt"])
    tokens = picker.buttons("trace-tokens", found[0])
    with gr.Row(elem_classes="pair"):
        work.controls(["subject", "answer"])
    answers = picker.buttons("trace-answers", found[1])
    with gr.Column(elem_classes="folds"):
        for title, names in [*FOLDS.items(), ("More", None)]:
            if work.left(names):
                with gr.Accordion(title, open=False) as fold:
                    with gr.Row():
                        work.controls(names, fold)
                    if "replacement" in (names or ()):
                        picker.suggest(work)
    work.buttons()
    return facts, tokens, answers


def fact_names(model: str) -> list[tuple[str, int]]:
    return [(f"{f['subject']}: {f['relation']} → {f['answer']}", i) for i, f in enumerate(picker.known_facts(model))]


def first_fact(work: Desk) -> int | None:
    """The number of the fact that is on the page on arrival."""
    asked = work.first.settings["prompt"] if work.first else None
    return next((i for i, fact in enumerate(picker.known_facts("scribe")) if fact["prompt"] == asked), None)


def connect(work: Desk, facts: gr.Dropdown, tokens: gr.HTML, answers: gr.HTML) -> None:
    """What the fields of the page do to each other."""
    prompt, subject, answer = (work.form[n] for n in ("prompt", "subject", "answer"))
    spelt = (picker.show_tokens, [work.model, prompt, subject], tokens)
    said = (picker.show_answers, [work.model, prompt], answers)

    def fill(model: str, index: int | None) -> list[object]:
        fact = picker.known_facts(model)[index] if index is not None else {}
        return [fact.get(n, gr.skip()) for n in ("prompt", "subject", "answer")]

    def described(event: gr.events.Dependency) -> None:
        event.then(*said, **QUIET)

    described(facts.input(fill, [work.model, facts], [prompt, subject, answer], **QUIET))
    described(work.model.input(lambda model: gr.Dropdown(fact_names(model), value=None), work.model, facts, **QUIET))
    gr.on([prompt.change, subject.change, work.model.change], *spelt, trigger_mode="always_last", **QUIET)
    gr.on([prompt.blur, prompt.submit], *said, **QUIET)
    tokens.select(picker.choose, [prompt, subject], subject, **QUIET)
    answers.select(picker.choose_answer, None, answer, **QUIET)
    work.described = described
