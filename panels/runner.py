"""An experiment as a form, a run, a Stop button and the figure of its latest event: the only event loop."""

from __future__ import annotations

import concurrent.futures
import contextlib
import html
import importlib
import json
import os
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any
from uuid import uuid4

import gradio as gr

from lab import runs
from lab.events import LIVE, Edited, Event, Progress
from lab.experiment import Experiment, find, read
from models import catalog
from models.errors import BadInput, LabError
from panels import export, form
from panels.draw import draw
from panels.shelf import PREFIX, SHELF
from panels.store import STORE, Shown

# On a public server visitors may not read the folders of the machine
PUBLIC = os.environ.get("MNEMOSCOPE_PUBLIC", "") not in ("", "0") or "SPACE_ID" in os.environ
SHARED = ("prompt", "subject", "answer", "forget", "retain")  # what all desks of a page may ask with one control
EXAMPLE = "example"  # the name of the figure that everyone finds on arrival
QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
LOADERS = concurrent.futures.ThreadPoolExecutor(4, "load")
GONE = "This figure is no longer on the server, which was restarted or needed the room. Press Run to make it again."

Updates = dict[Any, Any]


@dataclass
class Desk:
    """The components of one experiment on a page. `shown` holds, in the page, the name under which the store keeps what is drawn."""

    name: str
    kind: type[Experiment]
    first: runs.Run | None = None  # what is on the page on arrival
    model: Any = None  # the list of models
    form: dict[str, Any] = field(default_factory=dict)  # setting -> its control
    faults: dict[str, gr.HTML] = field(default_factory=dict)
    folds: dict[str, gr.Accordion] = field(default_factory=dict)
    lent: dict[str, gr.HTML] = field(default_factory=dict)  # messages beside the controls of another desk that this one uses too
    given: dict[str, Any] = field(default_factory=dict)  # what a link gives to its controls
    guide: gr.Accordion | None = None  # the page's first steps, opened from the opening page
    described: Callable[[Any], Any] | None = None  # what a page does after its form was filled from elsewhere
    pointed: Callable[[Any, gr.State], Any] | None = None  # shows the cell that a link names
    compared: Any = None  # the parts of a page that other pages lead to: two maps side by side,
    chosen: Any = None  # the item that was chosen,
    bench: Any = None  # and the models that its runs made
    below: Callable[[Desk], None] | None = None  # what the further desks of its page have under their figures
    drawn: Any = None  # the figure of `first`
    views: dict[Any, Callable[[Event], Any]] = field(default_factory=dict)  # component -> what it shows of an event, beside the figure
    taking: Callable[[str, str, dict[str, Any]], Callable[[Edited, Event | None], None]] | None = None  # what keeps the models that a run makes

    @property
    def key(self) -> str:
        return self.name.replace(".", "-")

    @property
    def page(self) -> str:
        return self.name.partition(".")[0]

    @property
    def own(self) -> str:
        """Keeps the ids of this desk's controls apart from those of the first on the page."""
        return f"{self.key}-" if self.lent else ""

    # What stands on the page

    def borrow(self, other: Desk) -> None:
        """Takes the model and the settings that mean the same there from `other`: before `controls`."""
        self.model = other.model
        self.form = {name: other.form[name] for name in shared(self.kind, other.kind)}
        self.lent = {name: other.faults[name] for name in ("model", *self.form)}

    def models(self) -> None:
        """The list of models of the page's task, open to any other name."""
        entries = catalog.entries(task(self.name))
        known = [(e.title if e.kind == "organism" else f"{e.title} · {e.name}", e.name) for e in entries]
        about = "A bundled organism, or type a Hugging Face id" + ("" if PUBLIC else ", or a folder")
        self.model = gr.Dropdown(known, value=source(self.first) if self.first else next(iter(entries)).name, allow_custom_value=True, label="Model",
                                 info=about, elem_id=f"{self.page}-model")
        self.faults["model"] = form.message("model")

    def controls(self, names: list[str] | None = None, fold: gr.Accordion | None = None) -> None:
        """Places the controls of the settings `names` here, each with room for a message beside it; all that are left, if None."""
        given = (self.first.settings if self.first else {}) | self.given
        for f in self.left(names):
            with gr.Column(min_width=150):
                self.form[f.name] = form.control(f, given.get(f.name), self.own)
                self.faults[f.name] = form.message(self.own + f.name)
            if fold:
                self.folds[f.name] = fold

    def left(self, names: list[str] | None = None) -> list[Field]:
        """Of the settings `names`, or of all that matter, those without a control yet, in this order."""
        known = {f.name: f for f in sorted(fields(self.kind), key=lambda f: f.name == "seed") if f.name != "seed" or self.kind.random}
        return [known[n] for n in (known if names is None else names) if n in known and n not in self.form]

    def buttons(self) -> None:
        with gr.Row(elem_classes="actions"):
            self.run = gr.Button("Run", variant="primary", elem_id=f"{self.key}-run")
            self.stop = gr.Button("Stop", elem_id=f"{self.key}-stop")
        self.faults[""] = form.message(f"{self.own}run")
        self.progress = gr.HTML("", elem_classes="progress", elem_id=f"{self.key}-progress")

    def figure(self) -> None:
        """The plot, and the ways to take it away and to bring one back."""
        self.shown = gr.Textbox(EXAMPLE if self.first else "", visible="hidden", elem_id=f"{self.key}-shown")
        self.done = gr.State("")  # another one whenever a run has ended, or a saved one was opened
        self.drawn = draw(self.first.result) if self.first else None
        # that of a page comes when the page is loaded, and is not part of it: the figures of all pages would be a fifth of what everybody waits for
        self.plot = gr.Plot(self.drawn if self.lent else None, elem_id=f"{self.key}-plot", show_label=False, container=False)
        with gr.Row(elem_classes="exports"):
            exports(self.key, self.packers, self.shown, self.faults[""])
            self.link = gr.Button("Copy link", size="sm", elem_id=f"{self.key}-link")
            self.upload = gr.UploadButton("Open a saved run", size="sm", file_types=[".json"], type="binary", elem_id=f"{self.key}-open")
        self.faults["file"] = form.message(f"{self.own}file")

    def connect(self) -> None:
        """Run, Stop, links and saved runs."""
        self.follow(self.run.click(self.begin, None, self.cleared, queue=False, **QUIET))
        self.run.click(None, self.inputs, None, js=self.script("ran"), api_visibility="private")
        self.link.click(None, self.inputs, None, js=self.script("share"), api_visibility="private")
        self.stop.click(self.halt, None, self.progress, queue=False, **QUIET)
        opened = self.upload.upload(self.opened, self.upload, self.everything, **QUIET)
        if self.described:
            self.described(opened)

    def offer(self) -> None:
        """The endpoint for programs."""
        gr.api(self.serve, api_name=self.name.replace(".", "_"), concurrency_id="device", concurrency_limit=8,
               api_description=f"{self.kind.title} ({self.kind.paper}). Yields progress, and last the run as JSON.")

    def follow(self, event: Any) -> Any:
        """After `event`: the run that it asked for, if it asked for one."""
        return event.then(self.watch, self.inputs, self.outputs, concurrency_id="device", concurrency_limit=8, **QUIET)

    def script(self, action: str) -> str:
        about = {"panel": self.page} | ({"experiment": self.name} if self.lent else {})
        return f"(...values) => lab.{action}('{self.key}', {json.dumps(about)}, {json.dumps(['model', *self.form])}, values)"

    @property
    def inputs(self) -> list[Any]:
        return [self.model, *self.form.values()]

    @property
    def cleared(self) -> list[Any]:
        return [self.progress, *self.messages]

    @property
    def outputs(self) -> list[Any]:
        return [*self.cleared, self.plot, *self.views, self.shown, self.done, *dict.fromkeys(self.folds.values())]

    @property
    def messages(self) -> list[gr.HTML]:
        return [*self.faults.values(), *self.lent.values()]

    @property
    def everything(self) -> list[Any]:
        return [*self.inputs, *self.outputs]

    # What happens

    def begin(self, request: gr.Request) -> Updates:
        """Asks for a run: the messages of the last one go away."""
        STORE.ask(str(request.session_hash), self.key)
        return {fault: form.clear() for fault in self.messages} | {self.progress: line("Starting")}

    def halt(self, request: gr.Request) -> Any:
        """Ends the run, which says so itself: a word from here could come later than its last."""
        return gr.skip() if STORE.stop(str(request.session_hash), self.key) else line("Nothing is running")

    def watch(self, request: gr.Request, model: str, *values: Any) -> Iterator[Updates]:
        """Runs with the values of the form, and yields what changes on the page. Without a run that was asked for it does nothing."""
        session = str(request.session_hash)
        ticket = STORE.claim(session, self.key)
        if ticket is None:
            yield {self.progress: gr.skip()}
            return
        settings = dict(zip(self.form, values, strict=True))
        take, latest = self.taking(session, model, settings) if self.taking else None, None
        stream, name = self.events(model, settings, ticket.stopped.is_set, session), ""
        try:
            with contextlib.closing(stream):
                while True:
                    try:
                        event = next(stream)
                    except StopIteration as end:
                        run = end.value
                        break
                    if isinstance(event, Progress):
                        yield {self.progress: line(event.note, event.done / event.total if event.total else 0)}
                        continue
                    if isinstance(event, Edited):
                        if take:
                            take(event, latest)
                        continue
                    name, latest = STORE.put(session, Shown(event), name), event
                    yield {self.plot: draw(event), self.shown: name, **self.viewed(event)}
            if STORE.current(session, self.key, ticket):
                yield self.ended(session, run, name)
        except LabError as error:
            yield {self.progress: "", **self.complain(error)}
        finally:
            STORE.done(session, self.key, ticket)

    def viewed(self, event: Event) -> Updates:
        return {component: view(event) for component, view in self.views.items()}

    def ended(self, session: str, run: runs.Run | None, name: str) -> Updates:
        if run is None:
            return {self.progress: line("Stopped before the first result")}
        STORE.put(session, Shown(run.result, run), name)
        said = f"Done in {run.seconds:.1f} s" if run.finished else "Stopped. What was computed stays here"
        return {self.progress: line(said), self.done: uuid4().hex}

    def events(self, model: str, settings: dict[str, Any], stopped: Callable[[], bool], session: str = "") -> Generator[Event, None, runs.Run | None]:
        """The events of a run, from loading the model on; returns its record, unfinished where it was stopped. `session` is whose edited models count."""
        yield Progress(0, 0, "Starting")
        experiment = read(find(self.name), settings)  # a wrong value is told before a model is loaded
        coming, started = LOADERS.submit(load, model, session), time.monotonic()
        while not coming.done() and not stopped():
            concurrent.futures.wait([coming], timeout=0.2)
            if not coming.done():
                yield Progress(0, 0, f"Loading {model}, {time.monotonic() - started:.0f} s")
        if stopped():
            return None  # the loader goes on by itself: the next run finds the model ready
        latest: dict[type, Event] = {}
        loaded, started = coming.result(), time.monotonic()
        with contextlib.closing(runs.record(self.name, settings, loaded)) as stream:
            while not stopped():
                try:
                    event = next(stream)
                except StopIteration as end:
                    return end.value
                if not isinstance(event, LIVE):
                    latest.pop(type(event), None)  # the last event comes last
                    latest[type(event)] = event
                yield event
        seconds = time.monotonic() - started
        return runs.describe(self.name, experiment, loaded, tuple(latest.values()), seconds, finished=False) if latest else None

    def serve(self, model: str, settings: dict) -> Iterator[dict]:
        """For programs: yields the progress of the run, and last the run itself, as the command line would save it."""
        stream = self.events(model, settings, lambda: False)
        try:
            while True:
                event = next(stream)
                if isinstance(event, Progress):
                    yield {"done": event.done, "total": event.total, "note": event.note}
        except StopIteration as end:
            yield end.value.to_json() if end.value else {}
        except LabError as error:
            yield {"error": str(error), "setting": getattr(error, "setting", "")}
        finally:
            stream.close()

    def complain(self, error: LabError) -> Updates:
        """The message beside the control that is at fault, or under the buttons; in both places where the control stands elsewhere on the page."""
        setting = error.setting if isinstance(error, BadInput) and error.setting in self.faults | self.lent else ""
        beside = self.lent.get(setting) or self.faults[setting]
        opened = {self.folds[setting]: gr.update(open=True)} if setting in self.folds else {}
        return {beside: form.fault(error), **({self.faults[""]: form.fault(error)} if setting in self.lent else {}), **opened}

    def opened(self, request: gr.Request, file: bytes) -> Updates:
        """Shows a run that was saved before, with its settings in the form, ready to run again."""
        try:
            run = runs.from_dict(parsed(file))
            if run.experiment != self.name:
                raise BadInput(f"this is a run of {run.experiment}", "it belongs to another experiment", "Open it there")
            return self.place(run, STORE.put(str(request.session_hash), Shown(run.result, run)))
        except LabError as error:
            return {self.faults["file"]: form.fault(error)}

    def place(self, run: runs.Run, name: str) -> Updates:
        """The form and the figure as they were when `run` ended."""
        try:
            figure = draw(run.result)
        except (TypeError, ValueError, IndexError) as error:
            raise BadInput(f"this run cannot be drawn ({error})", "its figures are damaged") from error
        said = f"Run of {run.made[:10]} on {run.model.get('name', '?')}. Press Run to repeat it"
        form_now = {control: run.settings.get(k, gr.skip()) for k, control in self.form.items()}
        return {self.model: source(run), **form_now, self.plot: figure, **self.viewed(run.result), self.shown: name, self.done: uuid4().hex,
                self.progress: line(said), **{fault: form.clear() for fault in self.messages}}

    def arrival(self) -> Updates:
        """The page as a visitor first finds it."""
        return self.place(self.first, EXAMPLE) if self.first else {}

    def find(self, request: gr.Request, name: str) -> Shown | None:
        """The figure called `name`, of this visitor."""
        if name == EXAMPLE and self.first:
            return Shown(self.first.result, self.first)
        return STORE.get(str(request.session_hash), name)

    @property
    def packers(self) -> dict[str, Callable]:
        """What the export buttons write: a text for the page to save, and a message where there is none."""

        def as_csv(name: str, request: gr.Request) -> tuple[str, Any]:
            found = self.find(request, name)
            return (export.as_csv(found.event), form.clear()) if found else ("", form.fault(LabError(GONE)))

        def as_json(name: str, request: gr.Request) -> tuple[str, Any]:
            found = self.find(request, name)
            if found and found.run:
                return json.dumps(found.run.to_json(), indent=1, allow_nan=False) + "\n", form.clear()
            return "", form.fault(LabError("The run still goes on. Wait for its end, or press Stop" if found else GONE))

        return {"csv": as_csv, "json": as_json}


def exports(key: str, packers: dict[str, Callable], shown: gr.Textbox, fault: gr.HTML) -> None:
    """The buttons that save the figure of `{key}-plot` as a picture, and what it holds as the texts of `packers`."""
    parcel = gr.Textbox(visible="hidden")
    for kind in ("png", "svg"):
        gr.Button(kind.upper(), size="sm", elem_id=f"{key}-{kind}").click(
            None, js=f"() => lab.image('{key}-plot', '{kind}', '{key}')", api_visibility="private")
    for kind, pack in packers.items():
        gr.Button(kind.upper(), size="sm", elem_id=f"{key}-{kind}").click(pack, shown, [parcel, fault], queue=False, **QUIET).then(
            None, parcel, None, js=f"(text) => lab.save(text, '{key}.{kind}')", api_visibility="private")


def task(experiment: str) -> str:
    """Which models an experiment asks: "text", or what its folder says."""
    return getattr(importlib.import_module(f"lab.{experiment.partition('.')[0]}"), "TAKES", "text")


def shared(one: type[Experiment], other: type[Experiment]) -> list[str]:
    """The settings that mean the same to both, and so have the same default."""
    theirs = {f.name: f.default for f in fields(other)}
    return [f.name for f in fields(one) if f.name in SHARED and theirs.get(f.name) == f.default]


def load(name: str, session: str = "", download: bool = True) -> Any:
    """The model that a visitor named: one that they made, or one of the catalog, fetched from the hub if that is where it is."""
    name = (name or "").strip()
    if name.startswith(PREFIX):
        return SHELF.get(session, name).model
    return catalog.load(name, allow_folders=not PUBLIC, allow_download=download)


def source(run: runs.Run) -> str:
    """The name by which the catalog finds the model of `run` again; of a folder no more than its name is known."""
    origin = str(run.model.get("source") or run.model.get("name") or "")
    return origin.partition(":")[2].partition("@")[0] or origin


def parsed(file: bytes) -> Any:
    try:
        return json.loads(file)
    except (ValueError, TypeError, RecursionError) as error:
        raise BadInput("this file holds no JSON", "it was cut off, or is another kind of file") from error


def line(note: str, share: float = 0) -> str:
    """One line of progress, over a bar as long as the `share` that is done."""
    return f'<div class="bar" style="width:{100 * share:.0f}%"></div><span role="status">{html.escape(note)}</span>'


def desk(name: str, example: Path | None = None) -> Desk:
    """The desk of experiment `name`, with the run saved at `example` on it where there is one."""
    return Desk(name, find(name), runs.load(example) if example and example.is_file() else None)
