"""Representation misdirection: the forget set's states are pushed to a random direction, those of the retain set held."""

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
class RepresentationMisdirection(RetainingUnlearn):
    """Minimises MSE(h(forget), c u) + a MSE(h(retain), h before(retain)), h being the state after a layer and u a random unit vector.

    Only the last matrix of the MLPs of that layer and the two below is trained. Published for 32 layers: layer 7, c 2 (20 for hazardous knowledge), a 1.
    """

    title = "Representation misdirection"
    paper = "Li et al. 2024, arXiv 2403.03218"
    direction = "forget loss: to the oracles' and no further; retain loss and KL to the oracle: lower is better"
    layer: int = setting(-1, "After which layer states are misdirected; -1 takes the published 7 of 32, scaled to the depth, at least 2", low=-1, high=500)
    coefficient: float = setting(2.0, "Length c of the state that the forget set is pushed to", low=0.0, high=1e4)

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.unlearn._loop import descend
        from lab.unlearn._misdirect import Misdirection

        yield from descend(self, model, data, Misdirection(self.retain_weight, self.layer, self.coefficient, self.seed))
