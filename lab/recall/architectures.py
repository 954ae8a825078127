"""Grown memory architectures side by side: what they recall over lag and load, and what their states cost."""

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
class Architectures(Experiment):
    """Reads fresh sequences with grown nets (models/memory), and never looks at the model that is chosen. All are one small net of two layers with another
    memory inside, grown by one recipe on the same tokens with about equal parameters; what differs is what they carry from token to token, and so the
    bytes of the state are always told.

    A sequence holds pairs of a key and a value, words, and the keys again, each once: what was its value? Lag is how many tokens ago the value
    stood, load how many pairs there are. Recall is the share of questions whose answer is the likeliest of all tokens; guessing among the values gives 1
    in 16. Fidelity swaps one stored value: Jensen-Shannon divergence, in bits, between the answers at its question before and after: 0 the
    memory did not notice, 1 it noticed and nothing else matters.
    """

    title = "Memory architectures: recall over lag and load"
    paper = "Arora et al. 2023 (Zoology), arXiv 2312.04927; each memory after its own paper, named in models/memory/designs.py"
    direction = "recall 0 to 1, higher: more is remembered; fidelity 0 to 1, higher: the answer follows what was stored"
    asks = False
    memories: str = setting("full, sinks, mamba2, memmamba, gated-delta", "Names of grown memories, with commas between; all: every one (some 2 seconds each)")
    show: str = setting("recall over lag", "The figure", choices=("recall over lag", "recall over load", "lag x load", "fidelity over lag",
                                                                   "recall against bytes", "table"))
    pairs: int = setting(16, "Pairs in a sequence, where the figure is over lag", low=1, high=40)
    length: int = setting(128, "Tokens of a sequence; all were grown on 128", low=32, high=1024)
    sequences: int = setting(48, "Sequences a measurement", low=4, high=512)
    grown: int = setting(0, "Which of the grown nets: the seed that it was grown with", low=0, high=99)

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.recall._arch_run import architectures

        yield from architectures(self)
