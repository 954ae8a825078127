"""When a loss says that the weights were thrown away, though every number is still finite.

A model that knows nothing gives every token the same probability and has a loss of log(vocabulary) nats; beyond it a model is sure of what is wrong.
Forget losses go there on purpose, so what is to be kept is looked at, where there is a retain set. Chosen from runs of all methods on scribe, where a
uniform guess has 8.3 nats: at the default rate the retain loss stays under 0.4 of that, gradient ascent of 60 steps apart, which reaches 1.4; at ten times
the rate gradient difference rises to 0.7 and comes back; at a rate of 1.0 most methods pass 5 within two steps, and go on to thousands of nats. The forget
loss alone, of an ascent without a retain set, reaches 2.4 at the default rate and 9 at ten times that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

GOOD = {"retain": 1.0, "forget": 5.0}  # in units of `Bound.unit`: up to here a model is worth going back to
BROKEN = {"retain": 5.0, "forget": 20.0}  # beyond here a run ends

INFINITE = "not finite: a loss or a weight grew beyond all numbers"


@dataclass(frozen=True)
class Bound:
    """What a loss may reach: that of `name`, "retain" or "forget", in units of `unit` nats an answer token."""

    name: str
    unit: float

    def good(self, losses: Mapping[str, float]) -> bool:
        """Whether a model of these losses is worth going back to."""
        return losses[self.name] <= GOOD[self.name] * self.unit

    def fault(self, losses: Mapping[str, float]) -> str:
        """What is wrong with a model of these losses, or ""."""
        found = losses[self.name]
        if not all(map(math.isfinite, losses.values())):
            return INFINITE
        if found <= BROKEN[self.name] * self.unit:
            return ""
        whose = "what is to be kept" if self.name == "retain" else "what is to be forgotten"
        return f"broken: the loss of {whose} grew to {found:,.0f} nats a token (a model that knows nothing has {self.unit:.1f})"


def bound(losses: Mapping[str, float], vocabulary: int) -> Bound:
    """The bound of a run that starts with these losses. A model that starts worse than a uniform guess is not blamed for it."""
    name = "retain" if "retain" in losses else "forget"
    start = losses[name]
    return Bound(name, max(math.log(vocabulary), start if math.isfinite(start) else 0.0))
