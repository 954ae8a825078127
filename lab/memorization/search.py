"""Does it say, unasked or after a prefix, what stands in given texts?"""

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
class PrefixSearch(Experiment):
    """Samples continuations of a prefix, or of nothing but the start token, and looks for given texts in them, word for word.

    As in the attack the samples carry their loss and their loss by zlib bytes, by which an attacker who has no texts would rank them.
    """

    title = "Search by sampling"
    paper = "Carlini et al. 2021, arXiv 2012.07805"
    direction = "a longer run, and a larger share: more of a text is recited word for word"
    prefix: str = setting("", "What every sample begins with; empty samples from the start token alone", lines=2)
    texts: str = setting("passage", "What is looked for: names or splits of an organism's items, or rows of text", lines=3)
    samples: int = setting(128, "How many continuations are drawn", low=1, high=2000)
    length: int = setting(64, "Tokens of a continuation", low=4, high=512)
    temperature: float = setting(1.0, "Logits are divided by this: lower is nearer to greedy decoding", low=0.05, high=5.0)
    top_k: int = setting(40, "Only so many of the likeliest tokens are drawn from; 0 takes all", low=0, high=1000)
    least: int = setting(8, "Shortest run of tokens that counts as covered", low=2, high=256)

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.memorization._search import search

        yield from search(self, model, data)
