"""A guided experiment: plain gradient ascent, and which scores it fools on its way."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.events import Event
from lab.experiment import Experiment, setting

if TYPE_CHECKING:
    from lab.data import Data
    from models.model import Model


@dataclass(frozen=True, kw_only=True)
class Gaming(Experiment):
    """Gradient ascent on the forget set, stopped every few steps and scored. It ruins a model, so a score that calls one of these steps a success is
    fooled: forget quality above .05 against every oracle, or a membership AUC that cannot be told from the oracles', while what was to be kept is lost.

    The KL to the oracles is drawn over that of the untouched model on the forget set: at 1 a model is as far from the oracles as if nothing had been done.
    What the figures show stands over them in words, also where nothing is fooled. Lines that need an oracle or holdout items are empty without them.
    """

    title = "How a score can be gamed"
    paper = "Maini et al. 2024, arXiv 2401.06121; Shi et al. 2024, arXiv 2407.06460"
    direction = "each line has its own: towards the oracles for forget quality and AUC, higher for accuracy, lower for KL"
    forget: str = setting("forget_10", "What is to be forgotten: items, a split, or rows of text")
    retain: str = setting("retain author", "What is to be kept, and is only looked at: items, a split, or rows of text")
    steps: int = setting(60, "Steps of gradient ascent", low=1, high=500)
    every: int = setting(5, "Steps between two measurements", low=1, high=100)
    most: int = setting(40, "Items of a set that are measured, drawn by seed", low=2, high=400)

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.ruler._gamed import gamed

        yield from gamed(self, model, data)
