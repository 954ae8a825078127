"""Selective amnesia (team SHA256 at SemEval-2025 task 4): causal tracing chooses the layers, and only their MLPs are trained."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.events import Event
from lab.experiment import setting
from lab.unlearn._settings import LR, GradientUnlearn

if TYPE_CHECKING:
    from lab.data import Data
    from models.model import Model


@dataclass(frozen=True, kw_only=True)
class SelectiveAmnesia(GradientUnlearn):
    """Minimises -CE(forget) + a CE(retain). a is 1.2 in the first epoch of the forget set; after it a = clip(round(0.3 * 6^d + 0.8, 1), 1.2, 2.3),
    d being CE(retain) less its mean over the first epoch, so that a retain loss that rises weighs more. (2.3 is in the authors' code; 2.8 in the paper.)

    Published for OLMo 1B and 7B: MLPs of layers 0-5, AdamW at 1.5e-5, 8 epochs. The layers here come from the averaged trace of facts of the forget set.
    """

    title = "Selective amnesia (SHA256)"
    paper = "Agrawal & Huang 2025, arXiv 2504.12996"
    direction = "forget loss: to the oracles' and no further; retain loss and KL to the oracle: lower is better"
    lr: float = setting(1.5 * LR, "Learning rate of AdamW; the published 1.5e-5 times 4096 over the model's width", low=1e-8, high=1.0)
    layers: str = setting("", "Layers whose MLPs are trained, such as 0-5; empty takes those that tracing points at")
    traced: int = setting(12, "Facts of the forget set that are traced to choose the layers", low=1, high=200)

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.unlearn._amnesia import Amnesia
        from lab.unlearn._loop import descend

        yield from descend(self, model, data, Amnesia(self.layers, self.traced, self.seed))
