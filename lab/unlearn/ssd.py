"""Selective synaptic dampening: weights that matter to the forget set far more than to all else are made smaller, once, without a step of training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.events import Event
from lab.experiment import setting
from lab.unlearn._settings import Unlearn

if TYPE_CHECKING:
    from lab.data import Data
    from models.model import Model


@dataclass(frozen=True, kw_only=True)
class SelectiveSynapticDampening(Unlearn):
    """Where the Fisher information of a weight on the forget set is over alpha times that on the retain set, it is multiplied by
    min(1, lambda I_retain / I_forget). Published with alpha 10 and lambda 1, for image classifiers; alpha has to be swept.

    The bars show the share of the weights of each layer that were dampened.
    """

    title = "Selective synaptic dampening"
    paper = "Foster et al. 2023, arXiv 2308.07707"
    direction = "forget loss: to the oracles' and no further; retain loss and KL to the oracle: lower is better"
    alpha: float = setting(10.0, "How many times more a weight must matter to the forget set to be dampened", low=0.0, high=1e9)
    strength: float = setting(1.0, "Lambda: the smaller, the more a chosen weight is dampened; 1 as published", low=0.0, high=1e9)
    samples: int = setting(256, "Texts of each set, at most, whose gradients are squared one by one", low=1, high=5000)

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.unlearn._dampen import dampen

        yield from dampen(self, model, data)
