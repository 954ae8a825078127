"""A run of the unlearning depth score: the oracles' losses first, then those of the model, as lines over the layers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from lab.data import Data
from lab.events import Curves, Event, Progress
from lab.items import choose
from lab.memorization._rows import question
from lab.ruler import _answers, _oracles
from lab.ruler._depth import drops
from lab.ruler._formulas import depth
from lab.ruler._table import first
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
    if len(items) > settings.most:
        chosen = torch.randperm(len(items), generator=torch.Generator().manual_seed(settings.seed))[: settings.most]
        items = [items[i] for i in sorted(chosen.tolist())]
    full, found = first(model), dict[str, np.ndarray]()
    rows = [r for i in items if (r := _answers.coded(full, question(i), i.answer))]
    if not rows:
        raise BadInput("no item has an answer to predict", "each is a single token", "Choose other items", setting="forget")
    everyone = [*_oracles.load(model, names), *([] if model is full else [model])]
    for done, each in enumerate(everyone):
        patching = drops(each, full, rows)
        while True:
            try:
                next(patching)
            except StopIteration as end:
                found[NOW if each is model else each.name] = end.value
                break
            yield Progress(done, len(everyone), f"states of {each.name}")
        yield view(found, why, len(rows), edited=model is not full)


def view(found: Mapping[str, np.ndarray], why: str, rows: int, edited: bool) -> Curves:
    """Means over items, with standard errors."""
    names = tuple(found)
    value = np.array([found[n].mean(0) for n in names])
    error = np.array([found[n].std(0, ddof=1) / math.sqrt(rows) if rows > 1 else np.full(value.shape[1], np.nan) for n in names])
    return Curves("What the full model loses with the states of another", names, np.arange(value.shape[1], dtype=float), "layer whose states are put in", value,
                  error, "nats a token of the answers", "higher: more of the answers is missing in these states",
                  (*told(found), f"{rows} items; bands: standard errors over them", *([why] if why else []),
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
        yield f"{int((one > 0.05).any(1).sum())} of {len(one)} items have a layer in which an oracle lacks more than 0.05 nats"
