"""A run of the unlearning depth score: the oracles' losses first, then those of the model, as lines over the layers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np

from lab.data import Data
from lab.events import Curves, Event, Progress
from lab.items import choose
from lab.progress import retold
from lab.ruler import _oracles
from lab.ruler._depth import KNOWN, drawn, drops, lacks
from lab.ruler._formulas import LEAST, depth
from models.errors import BadInput
from models.model import Model

if TYPE_CHECKING:
    from lab.ruler.depth import Depth

NOW = "this model"


def deep(settings: Depth, model: Model, data: Data) -> Iterator[Event]:
    yield Progress(0, 0, "choosing questions")
    items = choose(data, settings.forget, setting="forget")
    names, why = _oracles.fitting(data, items)
    if not names:
        raise BadInput("there is no oracle to measure the depth by", why, "Choose a forget set that an oracle never read, such as forget_10", setting="forget")
    full, found, costs = model.origin, dict[str, np.ndarray](), dict[str, np.ndarray]()
    rows, known = drawn(full, items, settings.most, settings.seed), drawn(full, _oracles.known_to_all(data, items, names), KNOWN, settings.seed)
    if not rows:
        raise BadInput("no item has an answer to predict", "each is a single token", "Choose other items", setting="forget")
    oracles = _oracles.load(model, names)
    for done, each in enumerate([*oracles, *([] if model is full else [model])]):
        progress = Progress(done, len(oracles) + 1, f"states of {each.name}")
        if each in oracles:
            found[each.name], costs[each.name] = yield from retold(lacks(each, full, rows, known), lambda _, now=progress: now)  # type: ignore[misc]
        else:
            found[NOW] = yield from retold(drops(each, full, rows), lambda _, now=progress: now)  # type: ignore[misc]
        yield view(found, costs, why, edited=model is not full)


def view(found: Mapping[str, np.ndarray], costs: Mapping[str, np.ndarray], why: str, edited: bool) -> Curves:
    """Means over items, with standard errors."""
    names, rows = tuple(found), len(next(iter(found.values())))
    value = np.array([found[n].mean(0) for n in names])
    error = np.array([found[n].std(0, ddof=1) / math.sqrt(rows) if rows > 1 else np.full(value.shape[1], np.nan) for n in names])
    turned = [f"{n} {c.max():.2f}" for n, c in costs.items()]
    return Curves("What the full model loses with the states of another", names, np.arange(value.shape[1], dtype=float), "layer whose states are put in", value,
                  error, "nats a token of the answers", "higher: more of the answers is missing in these states",
                  (*told(found), f"{rows} items; bands: standard errors over them",
                   "an oracle was grown from other initial weights, so its states are turned by a linear map first; what that costs on facts that both know, "
                   f"at most {', '.join(turned)} nats in a layer, is taken off", *([why] if why else []),
                   *([] if edited else ["this model is not edited: with its own states nothing is lost, and its depth is 0"])))


def told(found: Mapping[str, np.ndarray]) -> Iterator[str]:
    oracles = {n: d for n, d in found.items() if n != NOW}
    for name, mine in found.items():
        against = [depth(o, mine) for n, o in oracles.items() if n != name]
        scores = np.concatenate(against) if against else np.empty(0)
        if not np.isnan(scores).all():
            yield f"{name}: unlearning depth {np.nanmean(scores):.2f}" + ("" if name == NOW else ", against the other oracles")
    if oracles:
        one = next(iter(oracles.values()))
        yield f"{int((one > LEAST).any(1).sum())} of {len(one)} items have a layer in which an oracle lacks more than {LEAST} nats"
