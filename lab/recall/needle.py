"""A needle in a haystack: is it found at every length and every depth?"""

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
class Needle(Recall):
    """One statement is laid into general text at a depth, 0 at its beginning and 1 at its end, and asked for behind it. Every text of every cell is
    another one. What counts is the margin: the log-probability of the value that the needle tells, less that of the best other value in stock, at the first
    token that tells them apart. A text is retrieved where the margin is above zero; a length, where `enough` of the texts are at every depth. The effective
    length is the longest up to which every length was; the claimed one is what the model has positions for.
    """

    title = "Needle in a haystack"
    paper = ("passkey: Mohtashami & Jaggi 2023, arXiv 2305.16300; effective against claimed length: RULER, Hsieh et al. 2024, arXiv 2404.06654; "
             "" + POLICY_PAPERS)
    direction = "higher: the needle is found more surely"
    show: str = setting("margin", "The figure: the margin in every cell, the share retrieved, or all as a table", choices=("margin", "retrieved", "table"))
    material: str = setting("belongings", "What the needle tells, where no needle is written", choices=MATERIALS)
    needle: str = setting("", "Your own needle with {v} where its value stands, such as: The password of the lighthouse is {v}.")
    question: str = setting("", "What asks for it, up to where the value follows")
    values: str = setting("", "Its values, with commas between: each text tells one of them, and the others are what it is compared with", lines=2)
    lengths: str = setting("auto", "Tokens of the texts with their question; auto doubles them up to what the model has positions for")
    depths: int = setting(5, "Depths, evenly from the beginning to the end", low=2, high=50)
    repeats: int = setting(6, "Texts of every cell", low=2, high=1000)
    enough: float = setting(0.85, "Share of texts at every depth in which the needle has to be found for a length to count", low=0.01, high=1.0)
    longest: int = setting(512, "With auto: tokens of the longest text, for models that read more than anyone will wait for", low=16, high=10**6)

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.recall._needle import needle

        yield from needle(self, model)
