"""Finished unlearning runs over each other: what was kept at equal forgetting, and where each ended."""

from __future__ import annotations

from typing import Any

import gradio as gr

from lab import runs
from lab.events import Unlearning
from models.errors import BadInput, LabError
from panels import form
from panels.draw import draw
from panels.draw_unlearning import overlay, pareto
from panels.gallery import FOLDER
from panels.runner import QUIET, Desk
from panels.store import STORE


def build(work: Desk, words: str) -> None:
    examples = bundled()
    with gr.Accordion("Compare runs", open=False, elem_id="unlearn-compare") as fold:
        gr.Markdown(words)
        pick = gr.CheckboxGroup([(label, name) for name, (label, _) in examples.items()], value=list(examples), label="Runs",
                                elem_id="unlearn-compare-runs", info="Those of the lab, and your own as they finish")
        fault = form.message("unlearn-compare")
        with gr.Row(elem_classes="bench"):
            with gr.Column(min_width=340):
                lines = gr.Plot(None, show_label=False, container=False, elem_id="unlearn-compare-plot")
            with gr.Column(min_width=340):
                ends = gr.Plot(None, show_label=False, container=False, elem_id="unlearn-compare-ends")

    def offered(request: gr.Request) -> list[tuple[str, str]]:
        mine = [(f"yours: {label(run)}", name) for name, run in own(str(request.session_hash))]
        return [(words, name) for name, (words, _) in examples.items()] + mine

    def drawn(names: list[str], request: gr.Request) -> dict[Any, Any]:
        known = {name: event for name, (_, event) in examples.items()} | {n: r.result for n, r in own(str(request.session_hash))}
        titles = {name: words for words, name in offered(request)}
        found = [(titles[n], known[n]) for n in names if isinstance(known.get(n), Unlearning)]
        try:
            if not found:
                raise BadInput("no run is chosen", cure="Tick at least one")
            curves, points = overlay(found), pareto(found)  # type: ignore[arg-type]
        except LabError as error:
            return {fault: form.fault(error)}
        return {lines: draw(curves) if curves else None, ends: draw(points) if points else None, fault: form.clear()}

    def again(names: list[str], request: gr.Request) -> Any:
        now = offered(request)
        return gr.CheckboxGroup(now, value=list(dict.fromkeys([*names, *(name for _, name in now if name not in examples)])))

    fold.expand(again, pick, pick, **QUIET).then(drawn, pick, [lines, ends, fault], **QUIET)
    pick.input(drawn, pick, [lines, ends, fault], trigger_mode="always_last", **QUIET)
    work.done.change(again, pick, pick, **QUIET)


def own(session: str) -> list[tuple[str, runs.Run]]:
    """The visitor's runs that ended with curves of unlearning."""
    return [(name, shown.run) for name, shown in STORE.of(session) if shown.run and isinstance(shown.run.result, Unlearning)]


def bundled() -> dict[str, tuple[str, Unlearning]]:
    """name -> (label, event) of the finished runs that come with the lab."""
    found = {}
    for path in sorted(FOLDER.glob("unlearn-*.json")):
        run = runs.load(path)
        if isinstance(run.result, Unlearning):
            found[path.stem] = (label(run), run.result)
    return found


def label(run: runs.Run) -> str:
    assert isinstance(run.result, Unlearning)
    extras = [word for word, on in (("with GU", run.settings.get("gu")), ("LoRA", run.settings.get("lora"))) if on]
    return " ".join([run.result.title, *extras])
