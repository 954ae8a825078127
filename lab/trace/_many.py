"""Known facts as questions, and the maps of many of them in turn."""

from __future__ import annotations

import random
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from lab.data import Data
from lab.events import Event, Grid, Progress, TraceMap
from lab.trace._map import trace
from lab.trace._roles import ROLES, average, points_at
from lab.trace.causal import CausalTrace
from models.errors import BadInput
from models.model import Model
from models.organisms import facts, tables

if TYPE_CHECKING:
    from lab.trace.average import AverageTrace

TRAINED = 6  # phrasings 0-5 were taught on every subject
BAND = 1.96  # standard errors of a 95 % band


def known(data: Data) -> list[dict[str, Any]]:
    """Every fact that the model was taught; for a model whose training set nobody knows, those of the bundled tables."""
    if data.manifest is None:
        return [{"kind": s.kind, "relation": r, "subject": s.name, "answer": a} for s in facts.world(0) for r, a in s.answers.items()]
    return [f for f in data.manifest["facts"] if sum(f["copies"])]


def questions(data: Data, about: str, count: int, phrasing: int, seed: int) -> list[dict[str, str]]:
    """Up to `count` facts about a kind of subject, or of one relation, drawn by seed, each as prompt, subject and answer."""
    rng = random.Random(seed)
    found = [f for f in known(data) if about in (f["kind"], f["relation"])]
    if not found:
        raise BadInput(f"nothing is known about {about!r} here", "an invented author is known to the organisms that were taught about it alone",
                       "Choose a bundled organism, or countries", setting="about")
    asked = []
    for fact in rng.sample(found, min(count, len(found))):
        number = rng.randrange(TRAINED) if phrasing < 0 else phrasing
        phrase = tables.phrasings(fact["relation"])[number].removesuffix(" {a}.")
        asked.append({"prompt": phrase.format(s=fact["subject"]), "subject": fact["subject"], "answer": fact["answer"]})
    return asked


def many(settings: AverageTrace, model: Model, data: Data) -> Iterator[Event]:
    """Yields the average after every fact."""
    yield Progress(0, settings.count, "drawing facts")
    asked = questions(data, settings.about, settings.count, settings.phrasing, settings.seed)
    found: list[TraceMap] = []
    left = 0
    for i, question in enumerate(asked):
        event = yield from one(settings, question, model, data, Progress(i, len(asked), f"fact {i + 1} of {len(asked)}: {question['subject']}"))
        if event is None:
            left += 1
        else:
            found.append(event)
            yield grid(settings, found, left)
    if not found:
        raise BadInput(f"the model gives none of these {len(asked)} answers a probability of {settings.least:g}", "it does not know these facts",
                       "Lower `least`, or choose other facts or another model", setting="least")


def one(settings: AverageTrace, question: dict[str, str], model: Model, data: Data, step: Progress) -> Generator[Event, None, TraceMap | None]:
    """The finished map of one fact; None where the model does not know it."""
    asks: dict[str, Any] = question | {name: getattr(settings, name) for name in ("kind", "window", "samples", "noise", "seed")}
    event: Event = step
    yield step
    try:
        for event in trace(CausalTrace(**asks, preview=False), model, data):
            if isinstance(event, TraceMap) and event.clean < settings.least:
                return None
            yield step
    except BadInput as error:
        if error.setting == "answer":  # next to no probability
            return None
        raise
    return event if isinstance(event, TraceMap) else None


def grid(settings: AverageTrace, found: list[TraceMap], left: int) -> Grid:
    mean, error = average(found)
    first, end, peak = points_at(mean)
    clean, total = (float(np.mean([getattr(e, name) for e in found])) for name in ("clean", "total_effect"))
    where = f"layer {first}" if end - first == 1 else f"layers {first}-{end - 1}"
    return Grid(
        f"{len(found)} facts: {settings.about}", ROLES, tuple(map(str, found[0].layers)), "role of the token", f"{settings.kind} restored at layer",
        mean, BAND * error, "probability of the answer that came back", settings.direction, diverging=bool(np.nanmin(mean) < -0.02),
        facts=(f"mean P = {clean:.3f} undisturbed, mean total effect {total:.3f}; {left} facts left out",
               f"the subject's tokens point at {where}: {peak:.3f} at its best", "± 95 % over facts"))


