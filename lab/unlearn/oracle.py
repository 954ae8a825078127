"""Oracle matching: the upper bound of what unlearning could reach."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.events import Event
from lab.unlearn._settings import RetainingUnlearn

if TYPE_CHECKING:
    from lab.data import Data
    from models.model import Model


@dataclass(frozen=True, kw_only=True)
class OracleMatching(RetainingUnlearn):
    """Minimises the mean over the oracles of KL(oracle || model) on the answers of the forget set + a times the same on the retain set.

    No method has an oracle when it is needed: this shows how near steps of gradient descent come when the goal is known. It is also the last
    step of datamodel matching (Georgiev et al. 2024), which predicts the oracle's outputs instead."""

    title = "Oracle matching"
    paper = "Georgiev et al. 2024, arXiv 2410.23232"
    direction = "forget loss: to the oracles' and no further; retain loss and KL to the oracle: lower is better"

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.unlearn._loop import descend
        from lab.unlearn._terms import Matching

        yield from descend(self, model, data, Matching(self.retain_weight))
