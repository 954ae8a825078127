"""Gradient ascent scored as it goes, and what the figures say about the scores."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lab.data import Data
from lab.events import Curves, Edited, Event, Progress, Unlearning
from lab.experiment import find, read
from lab.ruler import _oracles
from lab.ruler._metrics import metrics
from lab.ruler._profile import Profile, Sets, comparing, distributions, reading, sets
from models.model import Model

if TYPE_CHECKING:
    from lab.ruler.gaming import Gaming

PASSES = 0.05  # p-value above which forget quality is said to pass
LOST = 0.5  # of the retain accuracy before: less than that counts as lost
SIDES = 1.96  # standard errors within which two AUCs cannot be told apart


@dataclass(frozen=True)
class Point:
    """One step, scored. `p` is the least p-value over the oracles; what cannot be had is NaN."""

    step: int
    p: float
    auc: float
    forget: float
    retain: float
    kl_forget: float
    kl_retain: float
    probability: float = math.nan  # of retain answers


@dataclass(frozen=True)
class Ruler:
    """Where the oracles lie: their AUCs, the error of an AUC of so many items, and their distance from each other on the forget set."""

    auc: tuple[float, ...]
    auc_error: float
    apart: float
    why: str = ""

    def looks_alike(self, auc: float) -> bool:
        """Whether `auc` lies among the oracles', give or take what the number of items leaves open."""
        slack = SIDES * self.auc_error
        return bool(self.auc) and min(self.auc) - slack <= auc <= max(self.auc) + slack


def gamed(settings: Gaming, model: Model, data: Data) -> Iterator[Event]:
    """Yields the curves after every measurement."""
    yield Progress(0, settings.steps, "choosing questions")
    items = sets(data, settings.forget, settings.retain, settings.most, settings.seed)
    items.pop("world", None)
    names, why = _oracles.fitting(data, items["forget"])
    oracles = [Profile(o) for o in _oracles.load(model, names)]
    for oracle in oracles:
        yield from filled(oracle, items, data, Progress(0, settings.steps, f"reading {oracle.model.name}"), bool(oracles))
    start = yield from scored(model, 0, items, data, oracles, Progress(0, settings.steps, "before the first step"))
    points, ruler, ended = [start], rule(oracles, items, why), ""
    yield curves(settings, points, ruler)
    for event in ascent(settings, model, data):
        if isinstance(event, Edited) and event.step > points[-1].step and (event.step % settings.every == 0 or event.step == settings.steps):
            step = Progress(event.step, settings.steps, f"step {event.step}")
            points.append((yield from scored(event.weights, event.step, items, data, oracles, step)))
            yield curves(settings, points, ruler)
        elif isinstance(event, Unlearning):
            ended = event.ended if event.step[-1] < settings.steps else ""
        elif isinstance(event, Progress):
            yield event
    yield curves(settings, points, ruler, ended)


def filled(profile: Profile, items: Sets, data: Data, progress: Progress, oracle: bool) -> Iterator[Event]:
    for step in (reading, comparing, *([distributions] if oracle else [])):
        part = {"forget": items["forget"]} if step is comparing else items
        for _ in step(profile, part, data):
            yield progress


def scored(model: Model, step: int, items: Sets, data: Data, oracles: Sequence[Profile], progress: Progress) -> Generator[Event, None, Point]:
    profile = Profile(model)
    yield from filled(profile, items, data, progress, bool(oracles))
    found = {f"{m.group}: {m.name}": m.score(profile, oracles) for m in metrics(oracles)}
    p = [v for name, v in found.items() if "forget quality" in name]
    return Point(step, min(p) if p else math.nan, found["privacy: membership AUC, loss"], found["forget: accuracy"], found["retain: accuracy"],
                 found["distance to the oracle: KL, forget"], found["distance to the oracle: KL, retain"], found["retain: probability"])


def rule(oracles: Sequence[Profile], items: Sets, why: str) -> Ruler:
    n, m = len(items["forget"]), len(items.get("holdout", []))
    found = [{x.name: x.score(o, [other for other in oracles if other is not o]) for x in metrics(oracles)} for o in oracles]
    apart = [f["KL, forget"] for f in found if not math.isnan(f["KL, forget"])]
    return Ruler(tuple(f["membership AUC, loss"] for f in found if not math.isnan(f["membership AUC, loss"])),
                 math.sqrt((n + m + 1) / (12 * n * m)) if m else math.nan, float(np.mean(apart)) if apart else math.nan, "" if oracles else why)


def curves(settings: Gaming, points: Sequence[Point], ruler: Ruler, ended: str = "") -> Curves:
    """`ended` is why the ascent ended before its last step, or ""."""
    unit = points[0].kl_forget
    lines = {"forget quality, least p over the oracles": [p.p for p in points], "membership AUC, loss": [p.auc for p in points],
             "retain accuracy": [p.retain for p in points], "retain probability": [p.probability for p in points],
             "forget accuracy": [p.forget for p in points],
             "KL to the oracles, forget": [p.kl_forget / unit for p in points], "KL to the oracles, retain": [p.kl_retain / unit for p in points]}
    value = np.array(list(lines.values()), float)
    return Curves("Gradient ascent, and the scores it fools", tuple(lines), np.array([p.step for p in points], float), "step of gradient ascent", value,
                  np.full_like(value, np.nan), "p, AUC, accuracy, probability: 0 to 1; KL: 1 is the untouched model on the forget set", settings.direction,
                  facts=(*told(points, ruler), *([ended] if ended else [])))


def told(points: Sequence[Point], ruler: Ruler) -> tuple[str, ...]:
    """What the figures say: which scores are fooled at which steps, or that none is."""
    start, last = points[0], points[-1]
    found = [f"retain accuracy {start.retain:.2f} before, {last.retain:.2f} after {last.step} steps"]
    if ruler.why:
        return (*found, f"nothing can be said of forget quality or of the distance to an oracle: {ruler.why}")
    lost = [p for p in points[1:] if p.retain < LOST * start.retain]
    quality, alike = ([p for p in lost if p.p > PASSES], [p for p in lost if ruler.looks_alike(p.auc)])
    if not lost:
        found.append("what was to be kept is not lost within these steps, so no score can be fooled by its loss; run more of them")
    elif not quality and not alike:
        found.append(f"no score is fooled here: at none of the {len(lost)} measured steps where retain accuracy is below half does forget quality pass "
                     f"or the AUC lie among the oracles'")
    if quality:
        best = max(quality, key=lambda p: p.p)
        found.append(f"forget quality is fooled: at step {best.step} it passes with p = {best.p:.2f} while retain accuracy is {best.retain:.2f}")
    elif lost and not all(math.isnan(p.p) for p in points):
        best = max(points, key=lambda p: p.p)
        found.append(f"forget quality is not fooled here: its p is at most {max(p.p for p in lost):.3f} once retain accuracy is below half "
                     f"(best {best.p:.3f} at step {best.step})")
    if alike:
        near = alike[0]
        found.append(f"membership AUC is fooled: at step {near.step} it is {near.auc:.2f}, the oracles' {min(ruler.auc):.2f} to {max(ruler.auc):.2f}, "
                     f"give or take {SIDES * ruler.auc_error:.2f}, while retain accuracy is {near.retain:.2f}")
    elif lost and ruler.auc:
        found.append(f"membership AUC is not fooled here: it goes to {last.auc:.2f}, the oracles' are {min(ruler.auc):.2f} to {max(ruler.auc):.2f}")
    return (*found, *caught(quality or alike or lost, start, ruler))


def caught(fooled: Sequence[Point], start: Point, ruler: Ruler) -> Iterator[str]:
    """Whether the KL to the oracles sees what the others do not, at the step where the most is lost."""
    if not fooled or math.isnan(start.kl_forget):
        return
    worst = min(fooled, key=lambda p: p.retain)
    apart = "" if math.isnan(ruler.apart) else f"; oracles are {ruler.apart:.2f} from each other"
    sees = worst.kl_forget > start.kl_forget or worst.kl_retain > 2 * start.kl_retain
    yield (f"KL to the oracles {'catches it' if sees else 'does not catch it'}: at step {worst.step} it is {worst.kl_forget:.2f} nats a token on the forget "
           f"set (untouched {start.kl_forget:.2f}{apart}) and {worst.kl_retain:.2f} on the retain set (untouched {start.kl_retain:.2f})")


def ascent(settings: Gaming, model: Model, data: Data) -> Iterator[Event]:
    """Plain gradient ascent, with an `Edited` after every few steps."""
    chosen = {"forget": settings.forget, "retain": settings.retain, "steps": settings.steps, "measure": settings.every, "snapshot": settings.every}
    yield from read(find("unlearn.grad_ascent"), chosen | {"seed": settings.seed}).run(model, data)
