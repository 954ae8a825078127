"""Learning from repeated data: a small net grown from nothing, on a corpus of which a known share is read again and again."""

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
class Repetition(Experiment):
    """Grows a net of its own, a GPT-2 of two layers and 0.1 M parameters, and never looks at the model that is chosen: what matters here is what was
    read how often, and that is known only of a corpus that is written for it. A step reads 32 documents of 32 symbols. Half are chains, each symbol one of
    eight successors of the last; half repeat a random string, so that the next symbol is known to who looks up what followed the last time.

    Of the chains a `share` comes from a pool that is read over and over. Compare with `control`, the same documents without the repeats: what is lost
    to it is what the repetition cost, not what too little data costs. The lines are nats a token of chains and copies that nobody trained on, and of the
    pool; the floor is the loss of the table that wrote the chains, on the same documents. At the end every head's attention to what followed earlier
    occurrences is measured, as a grid, before the finished curves. Settings of the bundled grid first show all its cells over repetition.
    """

    title = "Learning from repeated data"
    paper = "Hernandez et al. 2022, arXiv 2205.10487; heads as in Olsson et al. 2022, arXiv 2209.11895"
    direction = "lower is better read; the pool low and the held-out chains high: learned by heart at the cost of the rest"
    asks = False
    share: float = setting(0.5, "Share of the chain documents that are repeats", low=0.0, high=1.0)
    pool: int = setting(128, "Documents in the pool that is read over and over; 0: every document is read once", low=0, high=20_000)
    control: bool = setting(False, "Leave out the repeats: the same unique documents, and nothing in place of the others")
    steps: int = setting(1200, "Steps of training; 0 shows the bundled grid alone, and trains nothing", low=0, high=5000)

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.attention._repeat import repetition

        yield from repetition(self)
