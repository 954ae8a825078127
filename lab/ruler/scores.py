"""Every score of unlearning for one model, beside what the model was and what its oracles are."""

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
class Scores(Experiment):
    """One score alone can be gamed, so here are all of them: of the model before any edit, of the model now, and of each oracle, grown again
    without the forget set. The least and the most of the oracles is the band of what cannot be told from never having learned.

    An oracle's own KL, KLoM and PrivLeak are against the other oracles. Scores that cannot be had are empty, and the table says why.
    """

    title = "Scores beside the oracles"
    paper = ("Maini et al. 2024, arXiv 2401.06121; Shi et al. 2024, arXiv 2407.06460; Dorna et al. 2025, arXiv 2506.12618; Georgiev et al. 2024, "
             "arXiv 2410.23232; Carlini et al. 2019, arXiv 1802.08232")
    direction = "said in each row, since it differs: what is wanted is to lie where the oracles lie"
    forget: str = setting("forget_10", "What was to be forgotten: items, a split, or rows of text")
    retain: str = setting("retain", "What was to be kept: items, a split, or rows of text; empty for none")
    most: int = setting(80, "Items of a set that are measured, drawn by seed", low=2, high=2000)

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.ruler._table import scored

        yield from scored(self, model, data)
