"""Gradient ascent: away from the forget set, whatever else goes with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.events import Event
from lab.unlearn._settings import GradientUnlearn

if TYPE_CHECKING:
    from lab.data import Data
    from models.model import Model


@dataclass(frozen=True, kw_only=True)
class GradientAscent(GradientUnlearn):
    """Minimises -CE(forget). Published with AdamW at 1e-5, 10 epochs, batches of 32.

    Nothing holds it back: it ends in a model that knows nothing, and passes some metrics of forgetting all the same (see ruler.gaming)."""

    title = "Gradient ascent"
    paper = "Jang et al. 2022, arXiv 2210.01504; Maini et al. 2024, arXiv 2401.06121"
    direction = "forget loss: to the oracles' and no further; retain loss and KL to the oracle: lower is better"

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.unlearn._loop import descend
        from lab.unlearn._terms import Ascent

        yield from descend(self, model, data, Ascent())
