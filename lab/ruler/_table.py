"""The table of scores: before, now and the oracles, filled in pass by pass."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lab.data import Data
from lab.events import Event, Progress, Table
from lab.ruler import _oracles
from lab.ruler._metrics import Metric, metrics
from lab.ruler._profile import Profile, Sets, passes, sets
from models.model import Model

if TYPE_CHECKING:
    from lab.ruler.scores import Scores

CLOSE = 1e-6  # two figures that differ by less are one
Cell = str | float | None


def scored(settings: Scores, model: Model, data: Data) -> Iterator[Event]:
    """Yields the table after every pass; what is not measured yet is an empty cell."""
    yield Progress(0, 0, "choosing questions")
    items = sets(data, settings.forget, settings.retain, settings.most, settings.seed)
    yield Progress(0, 0, "which oracles fit")
    names, why = _oracles.fitting(data, items["forget"])
    root, oracles = model.origin, []
    for name in names:
        yield Progress(0, 0, f"loading {name}")
        oracles += [Profile(o, root) for o in _oracles.load(model, (name,))]
    before = Profile(root, root)
    now = before if root is model else Profile(model, root)
    everyone = [before, *([] if now is before else [now]), *oracles]
    todo = [(what, step, profile) for what, step in passes(items, names) for profile in everyone]
    for i, (what, step, profile) in enumerate(todo):
        progress = Progress(i, len(todo), f"{what}: {profile.model.name}")
        yield progress
        for _ in step(profile, items, data):
            yield progress
        if profile is everyone[-1]:
            yield table(before, now, oracles, items, why)
    yield table(before, now, oracles, items, why)


def table(before: Profile, now: Profile, oracles: list[Profile], items: Sets, why: str) -> Table:
    columns = ("set", "score", "before", "now", *(o.model.name for o in oracles), "oracles", "now lies", "what it is")
    about = ("what the score is about", "its name", f"the model before any edit: {before.model.name}",
             "this model" if now is not before else "this model, which is not edited: as before",
             *(f"the oracle {o.model.name}, held against the other oracles where it is held against any" for o in oracles),
             "least and most of the oracles: the noise band", "whether this model lies within the oracles' band, above or below it", "range and direction")
    counts = ", ".join(f"{len(mine)} {part}" for part, mine in items.items())
    return Table(f"Scores of {now.model.name}", columns, about, tuple(row(m, before, now, oracles) for m in metrics(oracles)),
                 facts=(f"items: {counts}", *([f"{why}"] if why and oracles else []), *lessons(before, now, oracles)), missing=missing(oracles, items, why))


def missing(oracles: list[Profile], items: Sets, why: str) -> str:
    found = [] if oracles else [f"scores that need an oracle are empty: {why}"]
    if "holdout" not in items:
        found.append("membership needs items of the same kind that were never trained, and there are none")
    if not any(i.kind == "canary" and len(i.answer) <= 4 for i in items["forget"]):
        found.append("exposure needs canaries of four digits in the forget set")
    if not any(i.wrong for i in items["forget"]):
        found.append("the truth ratio and forget quality need wrong answers of the same kind, which only facts of an organism have")
    return "; ".join(found)


def row(metric: Metric, before: Profile, now: Profile, oracles: list[Profile]) -> tuple[Cell, ...]:
    was = metric.score(before, oracles)
    value = was if now is before else metric.score(now, oracles)
    band = [metric.score(o, [other for other in oracles if other is not o]) for o in oracles]
    known = [v for v in band if not math.isnan(v)]
    low, high = (min(known), max(known)) if known else (math.nan, math.nan)
    words = f"{low:.3g} to {high:.3g}" if high - low > CLOSE else f"{low:.3g}"
    lies = "" if math.isnan(value) else "above" if value > high + CLOSE else "below" if value < low - CLOSE else "within"
    return (metric.group, metric.name, cell(was), cell(value), *map(cell, band), words if known else None, lies if known and lies else None, metric.about)


def cell(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def lessons(before: Profile, now: Profile, oracles: list[Profile]) -> list[str]:
    """What the figures say in words, as far as they are there."""
    kl = next(m for m in metrics(oracles) if m.name == "KL, forget")
    was, value = (kl.score(p, oracles) for p in (before, now))
    if math.isnan(value):
        return []
    band = [kl.score(o, [x for x in oracles if x is not o]) for o in oracles]
    apart = f"; oracles are {max(band):.2f} from each other" if band and not math.isnan(max(band)) else ""
    if now is before:
        return [f"on the forget set this model is {value:.2f} nats a token from the oracles{apart}"]
    return [f"on the forget set it is {value:.2f} nats a token from the oracles, {'nearer' if value < was else 'farther'} than before ({was:.2f}){apart}"]
