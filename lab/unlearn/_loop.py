"""The loop that all gradient methods share: it yields the curves after every step, and the model as it then is."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import torch

from lab.data import Data
from lab.events import Edited, Event, Progress, Unlearning
from lab.ruler import _oracles
from lab.ruler._meter import Meter, meter
from lab.unlearn._curves import Curves
from lab.unlearn._formulas import logits, mean, nll
from lab.unlearn._gu import Untangled
from lab.unlearn._method import Method, Terms
from lab.unlearn._private import Private
from lab.unlearn._sets import Batch, Sets, read
from models.errors import BadInput
from models.model import Model

if TYPE_CHECKING:
    from lab.unlearn._settings import GradientUnlearn

FIXED = 24  # texts of each set whose losses are drawn, the oracles' too
OFTEN = 0.1  # seconds between two events, at least
FORWARD, BACKWARD = 1 / 3, 2 / 3  # of a fine-tuning step, which is one of each
WANTED = {"forget": "as the oracle", "retain": "down"}


def descend(settings: GradientUnlearn, model: Model, data: Data, method: Method) -> Iterator[Event]:
    """Yields the first losses at once, then, after a full measurement, a point a step; every curve is followed by the model as it was at its end."""
    yield Progress(0, settings.steps, "reading the sets")
    run = Descent(settings, model, data, method)
    yield from method.prepare(model, data, run.sets)
    yield from run.go()


class Descent:
    """One run. `step` steps are done."""

    def __init__(self, settings: GradientUnlearn, model: Model, data: Data, method: Method) -> None:
        self.settings, self.model, self.data, self.method = settings, model, data, method
        self.started, self.shown, self.step, self.passes = time.monotonic(), 0.0, 0, 0.0
        self.sets: Sets = read(settings, model, data, method.retains or settings.gu)
        self.oracles, self.why = _oracles.fitting(data, self.sets.forget.items)
        if settings.until == "oracle" and not self.oracles:
            raise BadInput("there is no oracle whose forget loss could be reached", self.why, "Stop after a number of steps", setting="until")
        self.curves = Curves(type(settings).title)
        self.fixed = {"forget": self.sets.forget.sample(FIXED)} | ({"retain": self.sets.retain.sample(FIXED)} if self.sets.retain else {})
        self.goal = math.inf  # the oracles' forget loss
        self.samples: tuple[tuple[str, str, str, str, str], ...] = ()
        self.meter: Meter | None = None
        self.seen = (-1, math.nan)  # a step, and the forget loss after it

    def go(self) -> Iterator[Event]:
        settings = self.settings
        self.private = Private(self.model, self.method.trained(self.model), settings.lora, settings.seed)
        self.untangled = Untangled(settings.gu_history) if settings.gu else None
        self.optimizer = torch.optim.AdamW(self.private.parameters, settings.lr, betas=(0.9, 0.999), weight_decay=0.0)
        self.good = self.private.keep()
        yield self.event()
        yield from self.measured(self.prepare_meter())
        yield self.event()
        yield from self.edited()
        ended = self.over()
        while not ended:
            ended = self.one_step()
            at = self.step % settings.measure == 0 or bool(ended) or self.step == settings.steps
            if at and not ended.startswith("not finite"):
                yield from self.measured(self.measure())
            ended = ended or self.over()
            if ended or at or time.monotonic() - self.shown >= OFTEN:
                yield self.event(ended)
                yield from self.edited(last=bool(ended))
            else:
                yield Progress(self.step, settings.steps, f"step {self.step} of {settings.steps}")

    def one_step(self) -> str:
        """Returns why the run has to end here, or ""."""
        forget = self.sets.forget.draw(self.settings.batch)
        retain = self.sets.retain.draw(self.settings.batch) if self.sets.retain and (self.method.retains or self.untangled) else None
        self.optimizer.zero_grad(set_to_none=True)
        terms = self.method.terms(self.private.net, forget, retain)
        if not math.isfinite(terms.total.item()):
            return self.back()
        terms.total.backward()
        self.step += 1
        self.passes += FORWARD * self.method.forwards + BACKWARD * self.method.backwards
        self.apply(terms, retain)
        if not self.private.finite():
            self.step -= 1
            return self.back()
        for (group, name, better), value in terms.extras.items():
            self.curves.put(self.step, group, name, better, value)
        return ""

    def apply(self, terms: Terms, retain: Batch | None) -> None:
        if self.untangled is None:
            self.optimizer.step()
            return
        assert retain is not None
        loss = mean(nll(logits(self.private.net, retain), retain), retain)
        gradients = torch.autograd.grad(loss, self.private.parameters, allow_unused=True)
        self.passes += FORWARD + BACKWARD
        for name, value in self.untangled.step(self.optimizer, self.private.parameters, gradients).items():
            terms.extras["geometry", name, "down"] = value

    def back(self) -> str:
        self.private.restore(self.good)
        self.seen = (-1, math.nan)
        return (f"not finite: a loss or a weight grew beyond all numbers after step {self.step}. The last good model is kept. Its usual cause is a learning "
                f"rate that is too large: try {self.settings.lr / 10:.1g}")

    def over(self) -> str:
        if self.settings.until == "oracle" and self.look() >= self.goal:
            return f"the forget loss reached that of the oracles, {self.goal:.2f} nats, after {self.step} steps"
        if self.step >= self.settings.steps:
            return f"all {self.settings.steps} steps are done" + ("" if self.settings.until == "steps" else "; the oracles' forget loss was not reached")
        return ""

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
            yield Progress(self.step, self.settings.steps, f"measuring after step {self.step}")

    def event(self, ended: str = "") -> Unlearning:
        self.look()
        self.shown = time.monotonic()
        names, change = self.private.change()
        facts = (*self.method.facts(), *([self.why] if self.why and not self.oracles else []))
        return self.curves.event(names, change, self.samples, self.passes, self.shown - self.started, facts, ended)

    def edited(self, last: bool = False) -> Iterator[Event]:
        if last or self.private.small or self.step % self.settings.snapshot == 0:
            self.good = self.private.keep()
            yield Edited(self.step, self.private.frozen(self.curves.title), self.look())
