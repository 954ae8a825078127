"""A list is read, and one of its items asked for: does its place in the list matter?"""

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
class SerialPosition(Recall):
    """Statements in a row, then some general text, then the question for one of them; every place is asked in texts of its own. Recalled is a value that is the
    likeliest of those in the text; fidelity is the Jensen-Shannon divergence of the answer when the value is swapped, in bits. Primacy is the mean of the
    first third of the places less that of the middle, recency that of the last third less the middle. People show both; language models in long contexts
    too, with a sag in between.
    """

    title = "Serial position"
    paper = "Murdock 1962, doi 10.1037/h0045106; Liu et al. 2023 (Lost in the Middle), arXiv 2307.03172; " + POLICY_PAPERS
    direction = "higher: items at this place are recalled better"
    material: str = setting("places", "What the items tell", choices=MATERIALS)
    items: int = setting(6, "Statements in the list", low=3, high=200)
    delay: int = setting(16, "Tokens of general text between the list and the question", low=0, high=100_000)
    repeats: int = setting(16, "Texts for every place", low=2, high=1000)

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.recall._serial import serial

        yield from serial(self, model)
