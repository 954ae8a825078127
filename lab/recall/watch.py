"""A memory at work: a text with a planted pair, token by token."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.events import Event
from lab.experiment import Experiment, setting
from models.memory import grown as nets

if TYPE_CHECKING:
    from lab.data import Data
    from models.model import Model


@dataclass(frozen=True, kw_only=True)
class Watch(Experiment):
    """Reads a short text with one grown net (models/memory) in its recurrent form and looks into its state at every token; the model that is chosen is not
    looked at. The text holds pairs of a key and a value among words, and ends with the key that is asked for.

    Remembered: after every token the state is copied and the copy is asked for each pair read so far; the figure is the probability of its value, 0
    to 1, so that it shows when a pair comes in and when it is lost. Signals: what each layer's memory itself reports, each line as a share of its
    largest: how much is written, how much stays, surprise (Titans: the norm of the gradient; delta rule: of what the memory said wrongly). Looked up: how much
    the last answer hangs on each token (Jensen-Shannon divergence in bits when it is replaced by another of its kind), and where a memory keeps
    tokens as such, its attention to them at the question. Routing: which memories each token goes to.
    """

    title = "A memory at work, token by token"
    paper = "Behrouz et al. 2024 (Titans), arXiv 2501.00663; Du et al. 2025 (MoM), arXiv 2502.13685; others in models/memory/designs.py"
    direction = "remembered 0 to 1, higher: would be answered right if it were asked now; looked up, higher: the answer hangs on this token"
    asks = False
    memory: str = setting("decay", "Which memory reads", choices=tuple(nets.names()))
    show: str = setting("remembered", "The figure", choices=("remembered", "signals", "looked up", "routing", "table"))
    text: str = setting("", "Words w1 to w32, keys k1 to k64, values v1 to v16, at last a key that stands earlier with a value; empty: one is written", lines=3)
    pairs: int = setting(6, "Pairs in a text that is written, the planted one among them", low=1, high=32)
    length: int = setting(80, "Tokens of a text that is written; all were grown on 128", low=16, high=512)
    depth: float = setting(0.2, "Where the planted pair stands in a text that is written: 0 at its beginning, 1 just before the question", low=0.0, high=1.0)
    grown: int = setting(0, "Which of the grown nets: the seed that it was grown with", low=0, high=99)

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.recall._watch_run import watch

        yield from watch(self)
