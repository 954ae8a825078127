"""An experiment as a form, a run, a Stop button and the figure of its latest event: the only event loop."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import Field, dataclass, field, fields
from typing import Any
from urllib.parse import urlencode

import gradio as gr

from lab import runs
from lab.events import Event, Progress
from lab.experiment import Experiment, find
from models import catalog
from models.errors import BadInput, LabError
from panels import export
from panels.draw import draw

PUBLIC = os.environ.get("MNEMOSCOPE_PUBLIC") == "1" or "SPACE_ID" in os.environ  # visitors may not read this machine's folders


@dataclass
class Desk:
    """The components of one experiment on a page. `shown` holds the `Run` whose figure is on the page."""

    name: str
    kind: type[Experiment]
    model: Any  # the component that names the model
    form: dict[str, Any] = field(default_factory=dict)
    faults: dict[str, gr.Markdown] = field(default_factory=dict)
    described: Callable[[Any], Any] | None = None  # what a page does after its form was filled by a link

    @property
    def key(self) -> str:
        return self.name.replace(".", "-")

    def controls(self, names: list[str] | None = None) -> None:
        """Places the controls of the settings `names` here, each with room for a message beside it; all that are left, if None."""
        for f in fields(self.kind):
            if f.name not in self.form and (names is None or f.name in names):
                self.form[f.name] = control(f)
                self.faults[f.name] = message(f"fault-{f.name}")

    def buttons(self) -> None:
        with gr.Row(elem_classes="actions"):
            self.run = gr.Button("Run", variant="primary", elem_id=f"{self.key}-run")
            self.stop = gr.Button("Stop", elem_id=f"{self.key}-stop")
        self.faults[""] = message("fault-run")
        self.progress = gr.HTML(elem_classes="progress", elem_id=f"{self.key}-progress")

    def figure(self, first: runs.Run | None) -> None:
        """The plot with `first` on it, and the ways to take it away."""
        self.shown = gr.State(first)
        self.plot = gr.Plot(draw(first.result) if first else None, elem_id=f"{self.key}-plot", show_label=False, container=False)
        json_file, csv_file = export.files(first, self.key) if first else (None, None)
        with gr.Row(elem_classes="exports"):
            for kind in ("png", "svg"):
                gr.Button(kind.upper(), size="sm", elem_id=f"{self.key}-{kind}").click(
                    None, js=f"() => window.lab.image('{self.key}-plot', '{kind}', '{self.key}')", api_visibility="private")
            self.csv = gr.DownloadButton("CSV", csv_file, size="sm", elem_id=f"{self.key}-csv")
            self.json = gr.DownloadButton("JSON", json_file, size="sm", elem_id=f"{self.key}-json")
            gr.Button("Copy link", size="sm", elem_id=f"{self.key}-link").click(None, js="() => window.lab.copy()", api_visibility="private")
        self.query = gr.Textbox(visible="hidden", elem_id=f"{self.key}-query")
        self.query.change(None, self.query, js="(query) => window.lab.remember(query)", api_visibility="private")

    def connect(self) -> None:
        """Run and Stop, and the endpoint for programs."""
        self.click = self.run.click(self.follow, self.inputs, self.outputs, concurrency_id="device", concurrency_limit=8, show_progress="hidden",
                                    api_visibility="private")
        self.stop.click(lambda: "<span>stopped; what was computed stays on the page</span>", None, self.progress, cancels=[self.click],
                        api_visibility="private")
        gr.api(self.serve, api_name=self.name.replace(".", "_"), concurrency_id="device", concurrency_limit=8)

    @property
    def inputs(self) -> list[Any]:
        return [self.model, *self.form.values()]

    @property
    def outputs(self) -> list[Any]:
        return [self.progress, self.plot, self.shown, self.csv, self.json, self.query, *self.faults.values()]

    def follow(self, model: str, *values: Any) -> Iterator[dict[Any, Any]]:
        """Runs with the settings of the form, and yields what changes on the page."""
        settings = dict(zip(self.form, values, strict=True))
        clean: dict[Any, Any] = {fault: gr.update(value="", visible=False) for fault in self.faults.values()}
        yield clean | {self.progress: "<span>starting</span>"}
        try:
            with contextlib.closing(runs.record(self.name, settings, load(model))) as stream:
                while True:
                    try:
                        event = next(stream)
                    except StopIteration as end:
                        run: runs.Run | None = end.value
                        break
                    yield self.show(event)
        except LabError as error:
            yield {self.progress: "", **self.complain(error)}
            return
        if run:
            json_file, csv_file = export.files(run, self.key)
            yield {self.progress: f"<span>done in {run.seconds:.1f} s</span>", self.shown: run, self.json: json_file, self.csv: csv_file,
                   self.query: "?" + urlencode({"panel": self.key.split("-")[0], "model": model} | settings)}

    def show(self, event: Event) -> dict[Any, Any]:
        if isinstance(event, Progress):
            share = 100 * event.done / event.total if event.total else 0
            return {self.progress: f'<div class="bar" style="width:{share:.0f}%"></div><span>{event.note}</span>'}
        return {self.plot: draw(event)}

    def complain(self, error: LabError) -> dict[Any, Any]:
        """The message beside the control that is at fault, or under the buttons."""
        setting = error.setting if isinstance(error, BadInput) and error.setting in self.faults else ""
        return {self.faults[setting]: gr.update(value=f"⚠ {error}", visible=True)}

    def serve(self, model: str, settings: dict) -> Iterator[dict]:
        """For programs: yields the progress of the run, and last the run itself, as the command line would save it."""
        try:
            stream = runs.record(self.name, settings, load(model))
            while True:
                event = next(stream)
                if isinstance(event, Progress):
                    yield {"done": event.done, "total": event.total, "note": event.note}
        except StopIteration as end:
            yield end.value.to_json() if end.value else {}
        except LabError as error:
            yield {"error": str(error), "setting": getattr(error, "setting", "")}


def load(name: str) -> Any:
    """The model that a visitor named. Only an id with a slash or a known hub name is fetched from the hub."""
    return catalog.load((name or "").strip(), allow_folders=not PUBLIC, allow_download=True)


def message(kind: str) -> gr.Markdown:
    return gr.Markdown(visible=False, elem_classes=["fault", kind])


def control(f: Field) -> gr.components.Component:
    """What a person changes the setting with."""
    about: dict[str, Any] = {"label": f.name.replace("_", " "), "info": f.metadata["help"], "elem_id": f"setting-{f.name}"}
    kind, low, high = str(f.type), f.metadata.get("low"), f.metadata.get("high")
    default: Any = f.default
    if kind == "bool":
        return gr.Checkbox(default, **about)
    if "choices" in f.metadata:
        return gr.Dropdown(list(f.metadata["choices"]), value=default, **about)
    if kind == "str":
        return gr.Textbox(default, lines=f.metadata.get("lines", 1), **about)
    about["info"] += f" ({low:g} to {high:g})" if f.name != "seed" else ""
    return gr.Number(default, precision=0 if kind == "int" else None, **about)


def desk(name: str, model: gr.components.Component) -> Desk:
    return Desk(name, find(name), model)
