"""Negative preference optimization: below the likelihood that the model gave before, ever more gently."""

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
class NegativePreferenceOptimization(RetainingUnlearn):
    """Minimises -(2 / b) mean log sigmoid(b (NLL - NLL before)) on the forget set, NLL summed over an answer's tokens, + a CE(retain).

    As b tends to 0 its gradient tends to that of gradient ascent on summed NLL. Published with b = 0.1, a = 1."""

    title = "Negative preference optimization"
    paper = "Zhang et al. 2024, arXiv 2404.05868"
    direction = "forget loss: to the oracles' and no further; retain loss and KL to the oracle: lower is better"
    beta: float = setting(0.1, "Inverse temperature b: the larger, the sooner a forgotten text is left alone", low=1e-4, high=100.0)

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.unlearn._loop import descend
        from lab.unlearn._terms import NegativePreference

        yield from descend(self, model, data, NegativePreference(self.retain_weight, self.beta))
