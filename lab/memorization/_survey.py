"""Measures filled in, batch after batch, and what they say over all items."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lab.data import Data
from lab.events import Event, Progress, Survey
from lab.items import Item
from lab.memorization._measures import BY_NAME, MEASURES, Found, Measure, fill, passes, referred
from lab.memorization._measures import taken as read_items
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
    measures = [m for m in MEASURES if m.needs not in left_out(settings, items, data)]
    names = [m.name for m in measures]
    value = np.full((len(items), len(names)), np.nan)
    event, note = tabled(items, measures, value, ()), ""
    for batch in found(settings, model, data, items, names):
        note = NOTES[BY_NAME[next(iter(next(iter(batch.values()))))].needs] if batch else note
        fill(value, names, batch)
        yield Progress(int(np.isfinite(value).any(1).sum()), len(items), note)
        if batch:
            event = tabled(items, measures, value, facts(items, names, value, data))
            yield event
    yield event


def left_out(settings: MemorizationSurvey, items: Sequence[Item], data: Data) -> set[str]:
    """The passes that would find nothing, or are not wanted."""
    found = {"say": settings.say, "refer": bool(data.oracles), "compare": any(i.wrong for i in items),
             "rank": any(i.kind == "canary" and len(i.answer) <= settings.digits for i in items)}
    return {needs for needs, some in found.items() if not some}


def found(settings: MemorizationSurvey, model: Model, data: Data, items: Sequence[Item], names: Sequence[str]) -> Found:
    """The batches of all passes. The oracle is loaded only when the first figures are there."""
    losses: dict[int, float] = {}
    for batch in read_items(model, items, settings.k):
        losses |= {i: scores["loss"] for i, scores in batch.items()}
        yield batch
    if data.oracles:
        yield {}
        yield from referred(catalog.load(data.oracles[0], str(model.device)), items, losses)
    yield from passes(model, items, [n for n in names if BY_NAME[n].needs not in ("read", "refer")], digits=settings.digits)


def tabled(items: Sequence[Item], measures: Sequence[Measure], value: np.ndarray, lines: tuple[str, ...]) -> Survey:
    return Survey(f"{len(items)} items", tuple(i.name for i in items), tuple(i.label for i in items), tuple(i.kind for i in items),
                  tuple(i.split for i in items), np.array([i.copies for i in items], float), tuple(m.name for m in measures),
                  tuple(f"{m.about}. {m.paper}" for m in measures), tuple(m.sign for m in measures), value.copy(), lines)


def facts(items: Sequence[Item], names: Sequence[str], value: np.ndarray, data: Data) -> tuple[str, ...]:
    """What the figures say so far, in a few lines."""
    recall = value[:, names.index("recall")]
    done = np.isfinite(recall)
    lines = [f"{int(recall[done].sum())} of {int(done.sum())} items are recited word for word"] if done.any() else []
    never = done & np.array([i.copies == 0 for i in items])
    if never.any():
        lines.append(f"of these {int(recall[never].sum())} of {int(never.sum())} that it never read")
    return (*lines, *([f"the reference is {data.oracles[0]}"] if data.oracles else []))
