"""From page to page: an item that was found is traced, or forgotten; an edited model is traced again, or put on the ruler."""

from __future__ import annotations

import json
from typing import Any

import gradio as gr

from lab import items
from models import catalog
from models.errors import LabError
from panels import form
from panels.chosen import Chosen, origin_of, question, traceable
from panels.closer import Fold
from panels.edits import Workbench, choices
from panels.runner import QUIET, Desk
from panels.shelf import SHELF

Desks = dict[str, tuple[Desk, list[Fold]]]


def connect(tabs: gr.Tabs, desks: Desks) -> None:
    """Joins the pages that are there."""
    if {"memorization", "trace", "unlearn"} <= desks.keys():
        found, trace, unlearn = (desks[name][0] for name in ("memorization", "trace", "unlearn"))
        from_item(tabs, found, found.chosen, trace, unlearn, desks["memorization"][1])
        from_edit(tabs, unlearn, unlearn.bench, trace, desks["unlearn"][1])


def from_item(tabs: gr.Tabs, found: Desk, chosen: Chosen, trace: Desk, unlearn: Desk, folds: list[Fold]) -> None:
    """The three ways on from an item of the Find page."""
    asked = [found.model, chosen.item]

    def traced(model: str, name: str, request: gr.Request) -> dict[Any, Any]:
        try:
            fact = traceable(question(str(request.session_hash), model, name))
        except LabError as error:
            return {chosen.fault: form.fault(error)}
        return {tabs: gr.Tabs(selected="trace"), trace.model: gr.Dropdown(choices(str(request.session_hash)), value=model),
                **{trace.form[k]: v for k, v in fact.items()}, **trace.begin(request)}

    def forgotten(model: str, name: str, request: gr.Request) -> dict[Any, Any]:
        return {tabs: gr.Tabs(selected="unlearn"), unlearn.model: gr.Dropdown(choices(str(request.session_hash)), value=model),
                unlearn.form["forget"]: name}

    def read(name: str) -> dict[Any, Any]:
        fold = next(f for f in folds if f.name == "memorization.completion")
        return fold.unfolded({"item": name})

    completion = next(f for f in folds if f.name == "memorization.completion")
    chosen.read.click(read, chosen.item, [completion.accordion, completion.wanted], **QUIET).then(
        None, None, None, js="() => lab.reveal('memorization-completion-fold', 25)", api_visibility="private")
    chosen.forget.click(forgotten, asked, [tabs, unlearn.model, unlearn.form["forget"]], **QUIET)
    go = chosen.trace.click(traced, asked, [tabs, chosen.fault, *trace.inputs, *trace.cleared], **QUIET)
    described(trace, trace.follow(go))


def from_edit(tabs: gr.Tabs, unlearn: Desk, bench: Workbench, trace: Desk, folds: list[Fold]) -> None:
    """A snapshot is traced where its forget set was known, beside the model that it came from; or it is put on the ruler."""

    def before(name: str, request: gr.Request) -> dict[Any, Any]:
        session = str(request.session_hash)
        try:
            edit = SHELF.get(session, name or "")
            fact = traceable(first_item(session, edit.origin, str(edit.settings.get("forget", ""))))
        except LabError as error:
            return {bench.fault: form.fault(error)}
        return {tabs: gr.Tabs(selected="trace"), trace.model: gr.Dropdown(choices(session), value=edit.origin),
                **{trace.form[k]: v for k, v in fact.items()}, **trace.begin(request)}

    def after(name: str, request: gr.Request) -> dict[Any, Any]:
        held = SHELF.of(str(request.session_hash))
        if not any(e.name == name for e in held):
            return {trace.progress: gr.skip()}
        return {trace.model: name, **trace.begin(request)}

    def measured(name: str, forget: str, request: gr.Request) -> dict[Any, Any]:
        session = str(request.session_hash)
        try:
            edit = SHELF.get(session, name or "")
        except LabError as error:
            return {bench.fault: form.fault(error)}
        scores = next(f for f in folds if f.name == "ruler.scores")
        return {scores.accordion: gr.Accordion(open=True), unlearn.model: gr.Dropdown(choices(session), value=edit.name),
                scores.wanted: json.dumps({"given": {}, "run": True, "of": edit.name})}

    held = trace.compared
    went = bench.trace.click(before, bench.edit, [tabs, bench.fault, *trace.inputs, *trace.cleared], **QUIET)
    kept = held.keep_after(trace.follow(went))
    again = kept.then(after, bench.edit, [trace.model, *trace.cleared], **QUIET)
    described(trace, held.show_after(trace.follow(again)))
    scores = next((f for f in folds if f.name == "ruler.scores"), None)
    if scores:
        bench.ruler.click(measured, [bench.edit, unlearn.form["forget"]], [scores.accordion, scores.wanted, unlearn.model, bench.fault], **QUIET).then(
            None, None, None, js="() => lab.reveal('ruler-scores-fold', 25)", api_visibility="private")


def first_item(session: str, model: str, forget: str) -> items.Item:
    """The first item of a forget set that was named, in an organism."""
    manifest = catalog.manifest(origin_of(session, model))
    wanted = [c.strip() for line in forget.splitlines() for c in line.split(",") if c.strip()]
    found = next((i for i in items.planted(manifest) if any(items.names(c, i) for c in wanted)), None)
    if found is None:
        raise LabError("the forget set of this run names no item of an organism", "it was made of rows of your own", "Type the prompt on the Trace page")
    return found


def described(desk: Desk, event: Any) -> None:
    if desk.described:
        desk.described(event)
