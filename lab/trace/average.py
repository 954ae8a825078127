"""Causal mediation over many facts: the trace of each, averaged by the role of the token."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.events import Event
from lab.experiment import Experiment, setting
from models.organisms.tables import relations

if TYPE_CHECKING:
    from lab.data import Data
    from models.model import Model

ABOUT = ("country", "element", "animal", "author")
RELATIONS = tuple(relation for kind in ABOUT for relation in relations(kind))


@dataclass(frozen=True, kw_only=True)
class AverageTrace(Experiment):
    """One fact can mislead: many, drawn by seed, are traced, and their effects averaged over the tokens that play the same role.

    The band is 1.96 standard errors over the facts. Facts to which the model gives less than `least` are left out: what is not known cannot
    be traced. The layers that the average points at are those around the strongest effect at the subject that keep at least half of it.
    """

    title = "Average trace of many facts"
    paper = "Meng et al. 2022, arXiv 2202.05262; Vig et al. 2020, arXiv 2004.12265"
    direction = "higher: restoring tokens of this role alone brings more of the answers' probability back"
    about: str = setting("country", "Which facts: all about one kind of subject, or one relation", choices=(*ABOUT, *RELATIONS))
    count: int = setting(40, "How many facts are drawn", low=2, high=1000)
    phrasing: int = setting(-1, "Which of the ten phrasings asks; -1 draws one of the six that an organism was taught on every subject", low=-1, high=9)
    least: float = setting(0.5, "Facts whose answer has a smaller probability are left out", low=0.0, high=0.99)
    kind: str = setting("hidden", "What is put back", choices=("hidden", "mlp", "attention", "severed mlp", "severed attention"))
    window: int = setting(0, "Layers of MLPs or attentions put back together; 0 takes 10 in 48 layers, scaled to the model's depth", low=0, high=200)
    samples: int = setting(10, "Noise samples of each fact", low=2, high=100)
    noise: float = setting(3.0, "Strength of the noise, in standard deviations of the subjects' embeddings", low=0.1, high=20.0)

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.trace._many import many

        yield from many(self, model, data)
