"""Preference for another answer: "I do not know", or a wrong one."""

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
class IDontKnow(RetainingUnlearn):
    """Minimises -(2 / b) mean log sigmoid(b ((NLL before - NLL) of the alternative - (NLL before - NLL) of the answer)) + a CE(retain): direct
    preference optimization with an alternative answer (IDK-DPO), or, with an empty `alternative`, with wrong answers of the same kind (AltPO).

    Published with b = 0.1, a = 1. A model that learns to refuse may still hold what it no longer says."""

    title = "Preference for another answer"
    paper = "Maini et al. 2024, arXiv 2401.06121; Mekala et al. 2024, arXiv 2409.13474"
    direction = "forget loss: to the oracles' and no further; retain loss and KL to the oracle: lower is better"
    beta: float = setting(0.1, "Inverse temperature b", low=1e-4, high=100.0)
    alternative: str = setting("not known", "What is to be said instead; empty takes wrong answers of the same kind")

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.unlearn._loop import descend
        from lab.unlearn._terms import Preference

        yield from descend(self, model, data, Preference(self.retain_weight, self.beta, self.alternative))
