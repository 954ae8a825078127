"""How sharply the loss bends around an item: in its input, and in the weights."""

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
class LossCurvature(Experiment):
    """Curvature of an item's loss: the Hessian in its input embeddings, and the Fisher information in the MLPs' weights. Beside them, how much of what
    late MLP matrices do with an item lies where the loss of general text bends least.

    As published, memorized items lie where their loss bends sharply, in the input (Garg et al. 2023) as in the weights (Merullo et al. 2025). Whether
    that holds for this model shows beside the copy counts of an organism.
    """

    title = "Loss curvature"
    paper = "Garg et al. 2023, arXiv 2307.05831; Ravikumar et al. 2024, arXiv 2402.18726; Merullo et al. 2025, arXiv 2510.24256"
    direction = "as published, higher curvature, and a higher share of the flat part of the weights: more memorized"
    items: str = setting("sample", "sample (about 350 of every planted kind, split and copy count, drawn by seed), all, names, splits such as forget_10, "
                         "or rows: JSONL, CSV or one text a line", lines=3)
    probes: int = setting(4, "Random directions of each estimate; the error falls with their root", low=1, high=200)
    step: float = setting(0.003, "Length of a step in the input, in root mean squares of its embeddings", low=0.0001, high=1.0)

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.memorization._curvature import curvatures

        yield from curvatures(self, model, data)
