"""One memory grown from nothing, live: recall appears."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.events import Event
from lab.experiment import Experiment, setting
from models.memory.designs import DESIGNS

if TYPE_CHECKING:
    from lab.data import Data
    from models.model import Model


@dataclass(frozen=True, kw_only=True)
class Learn(Experiment):
    """Grows a net of two layers with the chosen memory by the recipe of the bundled ones, shorter and with fewer pairs, and never looks at the model that is
    chosen. As it learns it is asked on sequences that it never trained on: recall of few pairs, of as many as it practises, and of a passkey of three
    values in a haystack. Nothing happens for a while, then recall appears, the easy kinds first; guessing a value gives 1 in 16.
    """

    title = "Recall appears: a memory grown live"
    paper = "Arora et al. 2023 (Zoology), arXiv 2312.04927; each memory after its own paper, named in models/memory/designs.py"
    direction = "share of questions answered right, 0 to 1; higher: more is remembered"
    asks = False
    memory: str = setting("full", "Which memory is grown", choices=tuple(DESIGNS))
    steps: int = setting(400, "Steps of training", low=4, high=4000)
    pairs: int = setting(8, "The most pairs in a training sequence; training begins with two", low=2, high=24)
    length: int = setting(64, "Tokens of a training sequence", low=16, high=128)
    batch: int = setting(32, "Sequences a step", low=4, high=128)

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.recall._learn_run import learn

        yield from learn(self)
