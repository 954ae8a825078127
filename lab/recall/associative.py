"""Many things are told, and all are asked for: associative recall in text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.events import Event
from lab.experiment import setting
from lab.recall._settings import MATERIALS, POLICY_PAPERS, Recall

if TYPE_CHECKING:
    from lab.data import Data
    from models.model import Model


@dataclass(frozen=True, kw_only=True)
class AssociativeRecall(Recall):
    """A text states a number of pairs and then asks for every one of them, in another order, each answer told before the next question. Recalled is a value
    that is the likeliest of all those that the text holds; the chance of that is one in their number. The strict share asks that it be the likeliest of all
    values in stock. Distance: tokens from the statement's end to the cue.
    """

    title = "Multi-query associative recall"
    paper = "Arora et al. 2023 (Zoology), arXiv 2312.04927; " + POLICY_PAPERS
    direction = "higher: more is recalled"
    show: str = setting("number", "The figure: recall over the number of pairs, over number and distance, or all as a table",
                        choices=("number", "number and distance", "table"))
    material: str = setting("places", "What is paired", choices=MATERIALS)
    pairs: str = setting("auto", "Numbers of pairs in a text; auto doubles them as far as they fit")
    repeats: int = setting(12, "Texts of every number", low=2, high=1000)
    longest: int = setting(512, "Tokens of a text at most, for models that read more than anyone will wait for", low=16, high=10**6)

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.recall._associative import associative

        yield from associative(self, model)
