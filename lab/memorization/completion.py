"""One item, token by token: what the model gave to each before it saw it, and what it says itself."""

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
class TokenByToken(Experiment):
    """The probability and the rank of every token of a text given all before it, and the greedy completion of its prompt.

    The text is an item of an organism, by its name, or a prompt and an answer; a prompt alone is only continued.
    """

    title = "A text, token by token"
    paper = "Carlini et al. 2023, arXiv 2202.07646"
    direction = "higher probability, and a rank nearer to 1: the model expects this token more"
    random = False
    item: str = setting("passage/0", "Name of an item of an organism; taken where prompt and answer are empty")
    prompt: str = setting("", "What is given", lines=2)
    answer: str = setting("", "What would be recited", lines=2)
    tokens: int = setting(48, "How many tokens greedy decoding writes", low=1, high=512)

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.memorization._completion import complete

        yield from complete(self, model, data)
