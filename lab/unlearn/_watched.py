"""What is watched of a model while it is edited: losses of fixed texts, the meter's series, and where the oracles lie on both."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator, Sequence
from typing import Any

import torch

from lab.data import Data
from lab.events import Event, Progress, Unlearning
from lab.ruler import _oracles
from lab.ruler._meter import Meter, meter
from lab.unlearn._curves import Curves
from lab.unlearn._formulas import logits, nll
from lab.unlearn._private import Private
from lab.unlearn._sets import Batch, Sets, joined, read
from lab.unlearn._settings import Unlearn
from models.model import Model

FIXED = 16  # texts of each set whose losses are drawn, the oracles' too
WANTED = {"forget": "as the oracle", "retain": "down"}


class Watched:
    """A run that edits `private`. `step` steps are done; `passes` counts them in fine-tuning steps."""

    private: Private
    total = 1  # steps of the run, at most

    def __init__(self, settings: Unlearn, model: Model, data: Data, retains: bool) -> None:
        self.settings, self.model, self.data = settings, model, data
        self.shown, self.step, self.passes = 0.0, 0, 0.0
        self.sets: Sets = read(settings, model, data, retains)
        self.oracles, self.why = _oracles.fitting(data, self.sets.forget.items)
        self.curves = Curves(type(settings).title)
        self.fixed: Batch = joined([deck.sample(FIXED) for deck in (self.sets.forget, self.sets.retain) if deck])
        self.forgotten = {id(item) for item in self.sets.forget.items}
        self.goal = math.inf  # the oracles' forget loss
        self.samples: tuple[tuple[str, str, str, str, str], ...] = ()
        self.meter: Meter | None = None
        self.seen = (-1, math.nan)  # a step, and the forget loss after it
        self.now: dict[str, float] = {}  # all losses of the fixed texts when they were last looked at

    def look(self) -> float:
        """The losses of the fixed texts as they are now; returns that of the forget set."""
        if self.seen[0] != self.step:
            self.now = found = self.losses(self.private.net)
            for name, value in found.items():
                self.curves.put(self.step, "loss", name, WANTED[name], value)
            self.seen = (self.step, found["forget"])
        return self.seen[1]

    @torch.no_grad()
    def losses(self, net: Any) -> dict[str, float]:
        """Mean nats an answer token of each set, by one forward pass of all fixed texts."""
        each = nll(logits(net, self.fixed), self.fixed)
        mine = torch.tensor([id(item) in self.forgotten for _, _, item in self.fixed.texts], device=each.device)
        parts = {"forget": mine, "retain": ~mine} if self.sets.retain else {"forget": mine}
        return {name: float(each[part].sum() / self.fixed.counted[part].sum().clamp(min=1)) for name, part in parts.items()}

    def prepare_meter(self) -> Generator[None, None, None]:
        theirs = [self.losses(oracle.net) for oracle in _oracles.load(self.model, self.oracles)]
        for name in theirs[0] if theirs else ():
            self.curves.band("loss", name, [found[name] for found in theirs])
        if theirs:
            self.goal = sum(found["forget"] for found in theirs) / len(theirs)
        yield
        retain = self.sets.retain.items if self.sets.retain else []
        self.meter = yield from meter(self.model, self.data, self.sets.forget.items, retain, seed=self.settings.seed)
        for i, name in enumerate(self.meter.names):
            self.curves.band(self.meter.groups[i], name, [self.meter.low[i], self.meter.high[i]])
        yield from self.measure()

    def measure(self) -> Generator[None, None, None]:
        assert self.meter
        self.look()
        values = yield from self.meter.measure(self.private.net)
        for name, group, better, value in zip(self.meter.names, self.meter.groups, self.meter.better, values, strict=True):
            self.curves.put(self.step, group, name, better, float(value))
        self.samples = self.meter.samples(self.private.net)

    def measured(self, work: Generator[None, None, None]) -> Iterator[Event]:
        """Measures, and says so between batches, so that it can be stopped there."""
        for _ in work:
            yield Progress(self.step, self.total, f"measuring after step {self.step}")

    def event(self, ended: str = "", facts: tuple[str, ...] = (), change: tuple[tuple[str, ...], Sequence[float]] | None = None) -> Unlearning:
        """The curves up to now; `change` is that of the weights, unless it is given."""
        self.look()
        self.shown = time.monotonic()
        names, changed = change or self.private.change()
        facts = (*facts, *([self.why] if self.why and not self.oracles else []))
        return self.curves.event(names, changed, self.samples, self.passes, facts, ended)
