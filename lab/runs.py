"""The record of a run: all that is needed to show it again without the model, and to run it again to the same figures."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import time
from collections.abc import Generator
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lab.backend import LOCAL, Backend
from lab.data import data_for
from lab.events import LIVE, Event, from_json, to_json
from lab.experiment import Experiment, find, fitting, read
from models.errors import BadInput

if TYPE_CHECKING:
    from models.model import Model

FORMAT = 2
LIBRARIES = ("torch", "transformers", "diffusers", "numpy", "captum", "scikit-learn", "scipy")


@dataclass(frozen=True, eq=False)
class Run:
    """One run; compare two by their `to_json()`.

    `events` holds the latest event of every kind: each is complete, so this is all that there was to see. `result` is the last.
    """

    experiment: str
    settings: dict[str, Any]
    model: dict[str, Any]  # name, source, lineage, weights (SHA-256 of all parameters)
    versions: dict[str, str]
    seconds: float
    events: tuple[Event, ...]
    finished: bool = True
    made: str = field(default_factory=lambda: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))

    @property
    def result(self) -> Event:
        return self.events[-1]

    def to_json(self) -> dict[str, Any]:
        plain = {k: v for k, v in vars(self).items() if k != "events"}
        result = {k: v for k, v in to_json(self.result).items() if k != "event"}
        return {"format": FORMAT} | plain | {"result": result, "events": [to_json(e) for e in self.events]}

    def save(self, path: Path) -> None:
        """Writes all or nothing: who interrupts it finds the file as it was. Raises `BadInput` where nothing can be written."""
        text = json.dumps(self.to_json(), indent=1, allow_nan=False) + "\n"
        try:
            if path.exists() and not path.is_file():
                path.write_text(text)  # a pipe or a device takes it as it comes; a folder refuses
                return
            path = path.resolve()  # what a link points to is replaced, not the link
            draft = path.with_name(f".{path.name}.{os.getpid()}")
            try:
                draft.write_text(text)
                draft.replace(path)
            finally:
                draft.unlink(missing_ok=True)
        except OSError as error:
            raise BadInput(f"{path} cannot be written", error.strerror or str(error), "Choose another file", setting="out") from error


def from_dict(value: Any) -> Run:
    """The run that `Run.to_json` wrote. Raises `BadInput` where it is something else."""
    try:
        if value["format"] != FORMAT:
            raise ValueError(f"its format is {value['format']}, this lab reads {FORMAT}")
        names = ("experiment", "settings", "model", "versions", "seconds", "finished", "made")
        run = Run(**{k: value[k] for k in names}, events=tuple(from_json(e) for e in value["events"]))
        if not isinstance(run.model, dict) or not {"name", "source", "lineage", "weights"} <= set(run.model):
            raise ValueError("it does not say which model ran")
        read(find(run.experiment), run.settings)
        if not run.events:
            raise ValueError("it holds no event")
        return run
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise BadInput(f"this is no run of the lab ({error})", "a run is the JSON that `python -m lab run --out` or the export button wrote") from error


def load(path: Path) -> Run:
    """The run saved at `path`; raises `BadInput` where there is none."""
    try:
        return from_dict(json.loads(path.read_text()))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"{path.name} cannot be read as a run ({error})", "it is missing or no JSON file") from error


def record(name: str, settings: dict[str, Any], model: Model, *, backend: Backend = LOCAL) -> Generator[Event, None, Run | None]:
    """Runs experiment `name` on `model`, yielding its events; returns the record, or None where it yielded nothing to keep."""
    experiment = read(find(name), settings)
    fitting(name, model)
    started = time.perf_counter()
    latest: dict[type, Event] = {}
    with contextlib.closing(backend.stream(experiment, model, data_for(model))) as stream:  # who leaves early gives the device back at once
        for event in stream:
            if not isinstance(event, LIVE):
                latest.pop(type(event), None)  # the last event comes last
                latest[type(event)] = event
            yield event
    return describe(name, experiment, model, tuple(latest.values()), time.perf_counter() - started) if latest else None


def describe(name: str, experiment: Experiment, model: Model, events: tuple[Event, ...], seconds: float, finished: bool = True) -> Run:
    about = {"name": model.name, "source": model.source, "lineage": list(model.lineage), "weights": model.fingerprint()}
    versions = {"python": platform.python_version()} | {k: metadata.version(k) for k in LIBRARIES}
    return Run(name, asdict(experiment), about, versions, round(seconds, 3), events, finished)
