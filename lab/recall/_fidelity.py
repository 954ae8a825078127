"""A run over distances and loads: the model, and the same network untrained."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, TypeVar

from lab.events import Event, Progress
from lab.memorization._rows import positions
from lab.recall._cells import cell, farthest, needed
from lab.recall._fidelity_views import Found, view
from lab.recall._layers import Kept, kept
from lab.recall._material import Stock, stock
from lab.recall._measures import Answers, answered, waited
from lab.recall._numbers import AUTO, doubling, numbers
from lab.recall._policies import Policy, Reader, holding
from lab.recall._settings import FULL
from lab.recall._untrained import untrained
from models.errors import BadInput
from models.model import Model

if TYPE_CHECKING:
    from lab.recall.fidelity import Fidelity

T = TypeVar("T")
NEAREST = 4  # the shortest distance of `auto`


def fidelity(settings: Fidelity, model: Model) -> Iterator[Event]:
    """Yields the chosen figure after every cell."""
    yield Progress(0, 0, "choosing what to store")
    stored = stock(model, settings.material)
    loads = numbers(settings.loads, "loads", low=1)
    lags = distances(settings.lags, model, stored, min(loads), settings.longest)
    reader = Reader(model, Policy.of(settings))
    readers = [reader] + ([Reader(untrained(model, settings.seed), reader.policy)] if settings.baseline else [])
    most = min(positions(model), settings.longest)
    held = yield from waited(holding(reader, most), 0, 0, "measuring the memory")
    found = Found(settings, model.name, reader.policy, lags, loads, stored, held, most)
    if settings.policy == FULL and settings.show not in ("distance", "distance and load", "recall"):
        for i, each in enumerate(readers):
            found.kept[i] = yield from last(kept(each, stored, lags, most, settings.seed), Kept)
            yield view(found)
    fit = [(lag, load) for lag in lags for load in loads if needed(model, stored, lag, load) <= most]
    total = len(fit) * len(readers)
    for done, (lag, load) in enumerate(fit):
        asked = cell(model, stored, lag, load, settings.repeats, str(settings.seed))
        for i, each in enumerate(readers):
            where = f"{load} stored, {lag} tokens back" + (", untrained" if i else "")
            found.answers[i, lag, load] = yield from last(answered(each, asked, stored), Answers, done * len(readers) + i, total, where)
        yield view(found)
    yield view(found)


def distances(text: str, model: Model, stored: Stock, load: int, most: int, setting: str = "lags") -> list[int]:
    """Raises `BadInput` where one is past what the model has positions for, with the smallest load."""
    far = farthest(model, stored, load, most)
    if far < 1:
        raise BadInput(f"{load} statements do not fit into {min(positions(model), most)} tokens", f"a statement has up to {stored.longest}",
                       "Choose tokens as the material, or a model that reads more", setting="material")
    if text.strip().lower() == AUTO:
        return doubling(min(NEAREST, far), far)
    found = numbers(text, setting)
    if found[-1] > far:
        raise BadInput(f"a distance of {found[-1]} is past the context", f"{model.name} reads {positions(model)} tokens, of which up to {most} are used here",
                       f"The farthest is {far}", setting=setting)
    return found


def last(steps: Iterator[Progress | T], kind: type[T], done: int = 0, total: int = 0, note: str = "") -> Generator[Progress, None, T]:
    """Passes on the progress, as that of part `done` of `total` where there are parts, and returns what was found."""
    for step in steps:
        if isinstance(step, kind):
            return step
        assert isinstance(step, Progress)
        yield Progress(done, total, note) if total else step
    raise AssertionError("nothing was found")
