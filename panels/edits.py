"""The models that a visitor's runs made: scrub through their snapshots, go on from one, go back, name it, trace it, measure it."""

from __future__ import annotations

import functools
import html
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import gradio as gr

from lab.events import Edited, Event, Unlearning
from models import catalog
from models.errors import BadInput, LabError
from panels import form
from panels.draw_unlearning import curves
from panels.runner import QUIET, Desk, task
from panels.shelf import PREFIX, SHELF, Edit

NONE = "<p class='quiet'>Snapshots of your runs appear here. The bundled model itself is never changed.</p>"
HEAD = ("question", "truth", "before", "now", "oracle")


def answers(event: Any) -> str:
    """What the model says to a few questions: before, at this step, and what a model says that never read the forget set."""
    if not isinstance(event, Unlearning) or not event.samples:
        return ""
    def row(cells: tuple[str, ...]) -> str:
        right = cells[3].strip().lower().startswith(cells[1].strip().lower())
        kinds = ("", "", "", " class=said" + ("-right" if right else "-wrong"), "")
        return "".join(f'<td data-label="{h}"{k}>{html.escape(c) or "–"}</td>' for h, k, c in zip(HEAD, kinds, cells, strict=True))
    body = "".join(f"<tr>{row(cells)}</tr>" for cells in event.samples)
    return f'<table class="answers"><thead><tr>{"".join(f"<th>{h}</th>" for h in HEAD)}</tr></thead><tbody>{body}</tbody></table>'


def keeper(session: str, model: str, settings: dict[str, Any], task: str = "text") -> Callable[[Edited, Event | None], None]:
    """Keeps the snapshots of one run; of those that come between two of the chosen distance only the newest, so that Stop loses nothing."""
    run, every = uuid4().hex, max(1, int(settings.get("snapshot") or 1))
    before: list[Edit] = []

    def take(event: Edited, shown: Event | None) -> None:
        if before and before[0].step % every == 0:
            SHELF.change(session, before[0].name, last=False)
        elif before:
            SHELF.drop(session, before[0].name)
        edit = Edit("", title(event), event.step, event.weights, model, run, settings, event.loss, shown, last=True, task=task)
        before[:] = [SHELF.put(session, edit)]
    return take


def title(event: Edited) -> str:
    return " · ".join([event.weights.parent.name if event.weights.parent else "", event.weights.via]).strip(" ·")


def choices(session: str, task: str = "text") -> list[tuple[str, str]]:
    """Every model of a task that this visitor can name: their own, the newest first, then those of the catalog."""
    mine = [(e.label, e.name) for e in reversed(own(session, task))]
    return mine + [(e.title if e.kind == "organism" else f"{e.title} · {e.name}", e.name) for e in catalog.entries(task)]


def title_of(session: str, name: str) -> str:
    """A model's name for people: what its visitor called an edit, or what the run said of it."""
    return next((e.label for e in SHELF.of(session) if e.name == name), name)


def own(session: str, task: str) -> list[Edit]:
    return [e for e in SHELF.of(session) if e.task == task]


class Workbench:
    """Stands under the figure of a desk that edits models, and serves the further desks of its page too. Models of text can be led to other pages."""

    def __init__(self, work: Desk) -> None:
        self.work, key, self.task = work, work.key, task(work.name)
        first = work.first.result if work.first else None
        self.answers = gr.HTML(answers(first), elem_id=f"{key}-answers", elem_classes="told")
        work.views[self.answers], work.taking = answers, functools.partial(keeper, task=self.task)
        self.note = gr.HTML(NONE, elem_id=f"{key}-edits")
        with gr.Column(visible=False, elem_classes="edits") as self.bench:
            with gr.Row():
                self.scrub = gr.Slider(0, 1, 0, step=1, label="Scrub through the last run", elem_id=f"{key}-scrub", min_width=200)
                self.edit = gr.Dropdown([], label="Snapshot", elem_id=f"{key}-edit", min_width=200)
            with gr.Row(elem_classes="exports"):
                self.go_on = gr.Button("Go on from it", size="sm", elem_id=f"{key}-branch")
                self.undo = gr.Button("Undo the last edit", size="sm", elem_id=f"{key}-undo")
                self.trace = gr.Button("Where does it live now?", size="sm", elem_id=f"{key}-trace", visible=self.task == "text")
                self.ruler = gr.Button("Put it on the ruler", size="sm", elem_id=f"{key}-ruler", visible=self.task == "text")
            with gr.Row():
                self.name = gr.Textbox("", label="Name", elem_id=f"{key}-name", min_width=150, max_length=60)
                self.call = gr.Button("Name it", size="sm", elem_id=f"{key}-call", min_width=80)
        self.fault = form.message(f"{key}-edits")

    def connect(self) -> None:
        self.follow(self.work)
        self.scrub.input(self.scrubbed, self.scrub, [self.edit, self.work.plot, self.answers, self.fault], trigger_mode="always_last", **QUIET)
        self.edit.input(self.chosen, self.edit, [self.scrub, self.work.plot, self.answers, self.fault], **QUIET)
        self.go_on.click(self.branched, self.edit, [self.work.model, self.note, self.fault], **QUIET)
        self.undo.click(self.undone, self.work.model, [self.work.model, self.note, self.fault], **QUIET)
        self.call.click(self.called, [self.edit, self.name], [self.edit, self.work.model, self.fault], **QUIET)

    def follow(self, work: Desk) -> None:
        """Whenever a run of `work` has ended, its snapshots are offered here."""
        work.taking = self.work.taking
        work.done.change(self.refreshed, self.work.model, [self.note, self.bench, self.scrub, self.edit, self.work.model], **QUIET)

    def refreshed(self, model: str, request: gr.Request) -> dict[Any, Any]:
        session = str(request.session_hash)
        run = last_run(session, self.task)
        if not run:
            return {self.note: gr.skip()}
        count = "1 snapshot" if len(run) == 1 else f"{len(run)} snapshots"
        said = f"<p>{count} of this run, {len(own(session, self.task))} of yours in all. The model you began with is unchanged.</p>"
        return {self.note: said, self.bench: gr.Column(visible=True), self.work.model: gr.Dropdown(choices(session, self.task), value=model),
                self.scrub: gr.Slider(0, max(1, len(run) - 1), len(run) - 1, step=1, visible=len(run) > 1),
                self.edit: gr.Dropdown([(e.label, e.name) for e in own(session, self.task)], value=run[-1].name)}

    def scrubbed(self, at: float, request: gr.Request) -> dict[Any, Any]:
        run = last_run(str(request.session_hash), self.task)
        if not run:
            return {self.fault: form.fault(LabError("these snapshots are gone"))}
        edit = run[min(int(at), len(run) - 1)]
        return {self.edit: edit.name} | self.drawn(str(request.session_hash), edit)

    def chosen(self, name: str, request: gr.Request) -> dict[Any, Any]:
        try:
            edit = SHELF.get(str(request.session_hash), name)
        except LabError as error:
            return {self.fault: form.fault(error)}
        run = last_run(str(request.session_hash), self.task)
        return ({self.scrub: run.index(edit)} if edit in run else {}) | self.drawn(str(request.session_hash), edit)

    def drawn(self, session: str, edit: Edit) -> dict[Any, Any]:
        whole = next((e.event for e in reversed(SHELF.of(session)) if e.run == edit.run), None)  # the curves up to the end of its run
        return ({self.work.plot: curves(whole, edit.step), self.answers: answers(edit.event)} if isinstance(whole, Unlearning) else {}) | {
            self.fault: form.clear()}

    def branched(self, name: str, request: gr.Request) -> dict[Any, Any]:
        session = str(request.session_hash)
        try:
            edit = SHELF.get(session, name or "")
        except LabError as error:
            return {self.fault: form.fault(error)}
        said = f"<p>The next run begins with <b>{html.escape(edit.label)}</b>. Undo goes back to {html.escape(title_of(session, edit.origin))}.</p>"
        return {self.work.model: gr.Dropdown(choices(session, self.task), value=edit.name), self.note: said, self.fault: form.clear()}

    def undone(self, model: str, request: gr.Request) -> dict[Any, Any]:
        try:
            if not (model or "").startswith(PREFIX):
                raise BadInput("there is nothing to undo", "the model chosen above is not edited", "Press Go on from it to choose a snapshot first")
            before = SHELF.get(session := str(request.session_hash), model).origin
        except LabError as error:
            return {self.fault: form.fault(error)}
        said = f"<p>Back at <b>{html.escape(title_of(session, before))}</b>. The edit is still in the list.</p>"
        return {self.work.model: before, self.note: said, self.fault: form.clear()}

    def called(self, name: str, words: str, request: gr.Request) -> dict[Any, Any]:
        session = str(request.session_hash)
        try:
            if not words.strip():
                raise BadInput("a name is missing", cure="Type one, then press Name it")
            SHELF.change(session, name or "", title=words.strip(), kept=True)
        except LabError as error:
            return {self.fault: form.fault(error)}
        return {self.edit: gr.Dropdown([(e.label, e.name) for e in own(session, self.task)], value=name),
                self.work.model: gr.Dropdown(choices(session, self.task)), self.fault: form.clear()}


def last_run(session: str, task: str = "text") -> list[Edit]:
    """The snapshots of the newest run, in the order of their steps."""
    mine = own(session, task)
    return sorted((e for e in mine if e.run == mine[-1].run), key=lambda e: e.step) if mine else []

