"""Gradient difference: away from the forget set, towards the retain set."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.events import Event
from lab.experiment import setting
from lab.unlearn._settings import RetainingUnlearn

if TYPE_CHECKING:
    from lab.data import Data
    from models.model import Model


@dataclass(frozen=True, kw_only=True)
class GradientDifference(RetainingUnlearn):
    """Minimises -g CE(forget) + a CE(retain). Published with g = a = 1. The ascent has no bound, so it has to be stopped in time."""

    title = "Gradient difference"
    paper = "Liu et al. 2022, arXiv 2203.12817; Maini et al. 2024, arXiv 2401.06121"
    direction = "forget loss: to the oracles' and no further; retain loss and KL to the oracle: lower is better"
    forget_weight: float = setting(1.0, "Weight of the forget term, g", low=0.0, high=100.0)

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.unlearn._loop import descend
        from lab.unlearn._terms import Difference

        yield from descend(self, model, data, Difference(self.retain_weight, self.forget_weight))
