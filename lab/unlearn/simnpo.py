"""Simple negative preference optimization: no reference model, likelihood by length."""

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
class SimpleNegativePreferenceOptimization(RetainingUnlearn):
    """Minimises w (-(2 / b) mean log sigmoid(b (NLL / length - d))) on the forget set + a CE(retain).

    Published with b = 4.5, d = 0, w = 0.125, a = 1; its authors call it sensitive to these."""

    title = "Simple negative preference optimization"
    paper = "Fan et al. 2024, arXiv 2410.07163"
    direction = "forget loss: to the oracles' and no further; retain loss and KL to the oracle: lower is better"
    beta: float = setting(4.5, "Inverse temperature b", low=1e-4, high=100.0)
    delta: float = setting(0.0, "Margin d, in nats a token", low=-20.0, high=20.0)
    forget_weight: float = setting(0.125, "Weight of the forget term, w", low=0.0, high=100.0)

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.unlearn._loop import descend
        from lab.unlearn._terms import SimplePreference

        yield from descend(self, model, data, SimplePreference(self.retain_weight, self.beta, self.delta, self.forget_weight))
