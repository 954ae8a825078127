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
from lab.unlearn._formulas import logits, mean, nll
from lab.unlearn._private import Private
from lab.unlearn._sets import Batch, Sets, read
from lab.unlearn._settings import Unlearn
from models.model import Model

FIXED = 24  # texts of each set whose losses are drawn, the oracles' too
WANTED = {"forget": "as the oracle", "retain": "down"}


class Watched:
    """A run that edits `private`. `step` steps are done; `passes` counts them in fine-tuning steps."""

    private: Private
    total = 1  # steps of the run, at most

    def __init__(self, settings: Unlearn, model: Model, data: Data, retains: bool) -> None:
        self.settings, self.model, self.data = settings, model, data
        self.started, self.shown, self.step, self.passes = time.monotonic(), 0.0, 0, 0.0
        self.sets: Sets = read(settings, model, data, retains)
        self.oracles, self.why = _oracles.fitting(data, self.sets.forget.items)
        self.curves = Curves(type(settings).title)
        self.fixed = {"forget": self.sets.forget.sample(FIXED)} | ({"retain": self.sets.retain.sample(FIXED)} if self.sets.retain else {})
        self.goal = math.inf  # the oracles' forget loss
        self.samples: tuple[tuple[str, str, str, str, str], ...] = ()
        self.meter: Meter | None = None
        self.seen = (-1, math.nan)  # a step, and the forget loss after it

    def look(self) -> float:
        """The losses of the fixed texts as they are now; returns that of the forget set."""
        if self.seen[0] != self.step:
            for name, fixed in self.fixed.items():
                self.curves.put(self.step, "loss", name, WANTED[name], now := self.loss(self.private.net, fixed))
                self.seen = (self.step, now) if name == "forget" else self.seen
        return self.seen[1]

    @torch.no_grad()
    def loss(self, net: Any, batch: Batch) -> float:
        return float(mean(nll(logits(net, batch), batch), batch))

    def prepare_meter(self) -> Generator[None, None, None]:
        for name, fixed in self.fixed.items():
            found = [self.loss(oracle.net, fixed) for oracle in _oracles.load(self.model, self.oracles)]
            self.curves.band("loss", name, found)
            if found and name == "forget":
                self.goal = sum(found) / len(found)
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
        return self.curves.event(names, changed, self.samples, self.passes, self.shown - self.started, facts, ended)
