"""Measures filled in, batch after batch, and what they say over all items."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lab.data import Data
from lab.events import Event, Progress, Survey
from lab.items import Item
from lab.memorization._measures import BY_NAME, MEASURES, Measure, fill, passes
from lab.memorization._sample import taken
from models import catalog
from models.model import Model

if TYPE_CHECKING:
    from lab.memorization.survey import MemorizationSurvey

NOTES = {"read": "reading the texts", "refer": "reading the texts with an oracle", "say": "saying what follows", "compare": "comparing with wrong answers",
         "rank": "ranking codes"}


def survey(settings: MemorizationSurvey, model: Model, data: Data) -> Iterator[Event]:
    """Yields the survey after every batch that brought figures, and `Progress` in between."""
    yield Progress(0, 0, "choosing items")
    items = taken(data, settings.items, settings.seed)
    reference = catalog.load(data.oracles[0], str(model.device)) if data.oracles else None
    left = {"say"} if not settings.say else set()
    if reference is None:
        left.add("refer")
    if not any(i.wrong for i in items):
        left.add("compare")
    if not any(i.kind == "canary" and len(i.answer) <= settings.digits for i in items):
        left.add("rank")
    measures = [m for m in MEASURES if m.needs not in left]
    names = [m.name for m in measures]
    value = np.full((len(items), len(names)), np.nan)
    event = tabled(items, measures, value, ())
    for batch in passes(model, items, names, k=settings.k, reference=reference, digits=settings.digits):
        if not batch:
            yield Progress(int(np.isfinite(value).any(1).sum()), len(items), "decoding and ranking")
            continue
        fill(value, names, batch)
        event = tabled(items, measures, value, facts(items, names, value, reference))
        yield Progress(int(np.isfinite(value).any(1).sum()), len(items), NOTES[BY_NAME[next(iter(next(iter(batch.values()))))].needs])
        yield event
    yield event


def tabled(items: Sequence[Item], measures: Sequence[Measure], value: np.ndarray, lines: tuple[str, ...]) -> Survey:
    return Survey(f"{len(items)} items", tuple(i.name for i in items), tuple(i.label for i in items), tuple(i.kind for i in items),
                  tuple(i.split for i in items), np.array([i.copies for i in items], float), tuple(m.name for m in measures),
                  tuple(f"{m.about}. {m.paper}" for m in measures), tuple(m.sign for m in measures), value.copy(), lines)


def facts(items: Sequence[Item], names: Sequence[str], value: np.ndarray, reference: Model | None) -> tuple[str, ...]:
    """What the figures say so far, in a few lines."""
    recall = value[:, names.index("recall")]
    done = np.isfinite(recall)
    lines = [f"{int(recall[done].sum())} of {int(done.sum())} items are recited word for word"] if done.any() else []
    never = done & np.array([i.copies == 0 for i in items])
    if never.any():
        lines.append(f"of these {int(recall[never].sum())} of {int(never.sum())} that it never read")
    return (*lines, *([f"the reference is {reference.name}"] if reference else []))
