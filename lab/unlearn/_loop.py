"""The loop that all gradient methods share: it yields the curves after every step, and the model as it then is."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch

from lab.data import Data
from lab.events import Edited, Event, Progress
from lab.memorization._rows import vocabulary
from lab.unlearn._bound import INFINITE, bound
from lab.unlearn._formulas import logits, mean, nll
from lab.unlearn._gu import Untangled
from lab.unlearn._method import Method, Terms
from lab.unlearn._private import Private
from lab.unlearn._sets import Batch
from lab.unlearn._watched import Watched
from models.errors import BadInput
from models.model import Model

if TYPE_CHECKING:
    from lab.unlearn._settings import GradientUnlearn

OFTEN = 0.1  # seconds between two events, at least
FORWARD, BACKWARD = 1 / 3, 2 / 3  # of a fine-tuning step, which is one of each


def descend(settings: GradientUnlearn, model: Model, data: Data, method: Method) -> Iterator[Event]:
    """Yields the first losses at once, then, after a full measurement, a point a step; every curve is followed by the model as it was at its end."""
    yield Progress(0, settings.steps, "reading the sets")
    run = Descent(settings, model, data, method)
    yield from method.prepare(model, data, run.sets)
    yield from run.go()


class Descent(Watched):
    """One run of a gradient method."""

    settings: GradientUnlearn

    def __init__(self, settings: GradientUnlearn, model: Model, data: Data, method: Method) -> None:
        super().__init__(settings, model, data, method.retains or settings.gu)
        self.method, self.total, self.broke = method, settings.steps, False
        if settings.until == "oracle" and not self.oracles:
            raise BadInput("there is no oracle whose forget loss could be reached", self.why, "Stop after a number of steps", setting="until")

    def go(self) -> Iterator[Event]:
        settings = self.settings
        self.private = Private(self.model, self.method.trained(self.model), settings.lora, settings.seed)
        self.untangled = Untangled(settings.gu_history) if settings.gu else None
        self.optimizer = torch.optim.AdamW(self.private.parameters, settings.lr, betas=(0.9, 0.999), weight_decay=0.0, fused=True)
        self.good = (0, self.private.keep())
        yield self.event(facts=self.method.facts())
        self.bound = bound(self.now, vocabulary(self.model))
        yield from self.measured(self.prepare_meter())
        ended = self.over()  # an edited model may begin where the oracles are
        yield self.event(ended, self.method.facts())
        yield from self.edited(last=bool(ended))
        while not ended:
            ended = self.one_step() or self.seen_well()
            at = self.step % settings.measure == 0 or bool(ended) or self.step == settings.steps
            if at and not self.broke:
                yield from self.measured(self.measure())
            ended = ended or self.over()
            if ended or at or time.monotonic() - self.shown >= OFTEN:
                yield self.event(ended, self.method.facts())
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
            return self.back(INFINITE)
        terms.total.backward()
        self.step += 1
        self.passes += FORWARD * self.method.forwards + BACKWARD * self.method.backwards
        self.apply(terms, retain)
        if not self.private.finite():
            self.step -= 1
            return self.back(INFINITE)
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

    def seen_well(self) -> str:
        """Looks after every step, shown or not: neither the curves nor the last good model must hang on the clock. Returns as `one_step` does."""
        self.look()
        if fault := self.bound.fault(self.now):
            return self.back(fault)
        if (self.private.light or self.step % self.settings.snapshot == 0) and self.bound.good(self.now):
            self.good = (self.step, self.private.keep())
        return ""

    def back(self, fault: str) -> str:
        """To the last good model, and to the step that it was after."""
        self.broke, broke, (self.step, kept) = True, self.step, self.good
        self.private.restore(kept)
        self.seen = (-1, math.nan)
        return (f"{fault} after step {broke}. The last good model, after step {self.step}, is kept. Its usual cause is a learning rate that is too large: "
                f"try {self.settings.lr / 10:.1g}")

    def over(self) -> str:
        if self.settings.until == "oracle" and self.look() >= self.goal:
            return f"the forget loss reached that of the oracles, {self.goal:.2f} nats, after {self.step} steps"
        if self.step >= self.settings.steps:
            return f"all {self.settings.steps} steps are done" + ("" if self.settings.until == "steps" else "; the oracles' forget loss was not reached")
        return ""

    def edited(self, last: bool = False) -> Iterator[Event]:
        if last or self.private.small or self.step % self.settings.snapshot == 0:
            yield Edited(self.step, self.private.frozen(self.curves.title), self.look())
