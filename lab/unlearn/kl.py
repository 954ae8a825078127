"""Gradient ascent with a KL term: answers to be kept stay as they were."""

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
class KLRetain(RetainingUnlearn):
    """Minimises -CE(forget) + a KL(model before || model) on the answers of the retain set. Published with a = 1."""

    title = "KL retain"
    paper = "Maini et al. 2024, arXiv 2401.06121"
    direction = "forget loss: to the oracles' and no further; retain loss and KL to the oracle: lower is better"

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.unlearn._loop import descend
        from lab.unlearn._terms import Divergence

        yield from descend(self, model, data, Divergence(self.retain_weight))
