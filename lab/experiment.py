"""An experiment is a frozen dataclass of settings that, run on a model, yields events."""

from __future__ import annotations

import difflib
import functools
import importlib
import math
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, get_type_hints

import lab
from models.errors import BadInput

if TYPE_CHECKING:  # importing an experiment must not import torch: the forms are built from settings alone
    from lab.data import Data
    from lab.events import Event
    from models.model import Model

KINDS = {"str": str, "int": int, "float": float, "bool": bool}


def setting(default: Any, help: str, **bounds: Any) -> Any:
    """A field with what a form needs to know: `help`; `low` and `high` (both inclusive) where it is a number; `choices` where it is one of few."""
    return field(default=default, metadata={"help": help, **bounds})


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Settings of one run. Raises `BadInput` on a value out of its bounds, so that no run starts with one."""

    title: ClassVar[str]
    paper: ClassVar[str]  # "Author et al. YEAR, arXiv NUMBER"
    direction: ClassVar[str]  # what a higher score means
    random: ClassVar[bool] = True  # whether the seed changes the figures
    asks: ClassVar[bool] = True  # whether the model that is chosen matters: some grow nets of their own
    seed: int = setting(0, "Seed of every random draw: the same seed gives the same figures", low=0, high=2**31 - 1)

    def __post_init__(self) -> None:
        for f in fields(self):
            check(f, getattr(self, f.name))

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        """Yields events, each complete in itself; the last one is the result. Leaves `model` as it was, also when closed early."""
        raise NotImplementedError


def check(f: Field, value: Any) -> None:
    """Raises `BadInput` where `value` is no legal value of the setting `f`."""
    about, kind = f.metadata, KINDS[str(f.type)]
    if isinstance(value, bool) != (kind is bool) or not isinstance(value, (int, float) if kind is float else kind):
        raise BadInput(f"{f.name} is {value!r}, but it takes {kind.__name__}", cure=about["help"], setting=f.name)
    if isinstance(value, float) and not math.isfinite(value):
        raise BadInput(f"{f.name} is {value}, which is not a finite number", cure=about["help"], setting=f.name)
    low, high = about.get("low"), about.get("high")
    if (low is not None and value < low) or (high is not None and value > high):
        raise BadInput(f"{f.name} is {value}, out of its bounds", f"it takes {low} to {high}", about["help"], setting=f.name)
    if "choices" in about and value not in about["choices"]:
        raise BadInput(f"{f.name} is {value!r}", f"it is one of {', '.join(map(str, about['choices']))}", setting=f.name)


def read(kind: type[Experiment], values: Mapping[str, Any]) -> Experiment:
    """The experiment with `values`, each given as text (from a command line or a link) or as its own type.

    Raises `BadInput` naming an unknown setting, a text that is no number, or a value out of bounds.
    """
    known = {f.name: f for f in fields(kind)}
    ready = {}
    for name, value in values.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise BadInput(f"{kind.title} has no setting {name!r}", f"its settings are {', '.join(known)}",
                           f"Did you mean {near[0]}?" if near else "", setting=name)
        ready[name] = parse(known[name], value)
    return kind(**ready)


def parse(f: Field, value: Any) -> Any:
    kind = KINDS[str(f.type)]
    if kind is bool and str(value).lower() in {"true", "false", "1", "0", "yes", "no"}:
        return str(value).lower() in {"true", "1", "yes"}
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)  # a browser sends 10.0 for 10
    try:
        return kind(value) if kind in (int, float) and not isinstance(value, (bool, float)) else value
    except (TypeError, ValueError):
        raise BadInput(f"{f.name} is {value!r}, which is no {kind.__name__}", cure=f.metadata["help"], setting=f.name) from None


@functools.cache
def discover() -> dict[str, type[Experiment]]:
    """Every experiment by its name, `<folder>.<file>`: found by standing in a folder of `lab/`. Files whose name begins with _ are private."""
    found: dict[str, type[Experiment]] = {}
    for folder in sorted(m.name for m in pkgutil.iter_modules(lab.__path__) if m.ispkg):
        package = importlib.import_module(f"lab.{folder}")
        for file in sorted(m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_")):
            module = importlib.import_module(f"lab.{folder}.{file}")
            own = [c for c in vars(module).values() if isinstance(c, type) and issubclass(c, Experiment) and c.__module__ == module.__name__]
            if len(own) != 1:
                raise TypeError(f"lab/{folder}/{file}.py defines {len(own)} experiments: a method is one file with one; begin other files with _")
            get_type_hints(own[0].__init__)  # a mistyped annotation fails here, not in a visitor's run
            found[f"{folder}.{file}"] = own[0]
    return found


def find(name: str) -> type[Experiment]:
    """The experiment called `name`; raises `BadInput` with the nearest names."""
    known = discover()
    if name not in known:
        near = difflib.get_close_matches(name, known, 3) or list(known)
        raise BadInput(f"there is no experiment {name!r}", cure=f"Did you mean {', '.join(near)}? `python -m lab list` shows all", setting="experiment")
    return known[name]


def fitting(name: str, model: Model) -> None:
    """Raises `BadInput` where the experiment `name` takes models of another kind: the `TAKES` of its folder, "text" where that says nothing."""
    takes = getattr(importlib.import_module(f"lab.{name.partition('.')[0]}"), "TAKES", "text")
    if takes != model.task:
        does = "draws pictures, and this reads text" if model.task == "pictures" else "writes text, and this is about models that draw pictures"
        raise BadInput(f"{model.name} {does}", "a model of the other kind was chosen",
                       "Choose painter, or another pipeline" if takes == "pictures" else "Choose scribe, or another language model", setting="model")
