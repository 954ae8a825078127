"""Does a model read what it knows by heart in another way than what is new?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.events import Event
from lab.experiment import Experiment, setting

if TYPE_CHECKING:
    from lab.data import Data
    from models.model import Model

MEASURES = ("second half to first half", "entropy", "share on the first token", "share on the token before", "induction share")
VIEWS = ("lines", "heads", "table")


@dataclass(frozen=True, kw_only=True)
class MemorizedAttention(Experiment):
    """Passages that stood in the corpus once, four, sixteen and sixty-four times, against passages of the same kind that never did, all cut to one length.

    Of each: how much the second half reads the first, and how its heads are used. Every difference has its standard error, and the figures say how many of
    them would lie beyond two by chance alone. On a model that is no organism, rows of text stand against rows of fresh text.
    """

    title = "Attention on memorized and on fresh text"
    paper = "AIA, arXiv 2511.22663; Olsson et al. 2022, arXiv 2209.11895; Xiao et al. 2023, arXiv 2309.17453"
    direction = "stated by the measure: a higher share reads more there, a higher entropy reads more tokens alike"
    random = False
    items: str = setting("passage", "What was read: names or splits of items, or rows of text", lines=3)
    fresh: str = setting("holdout passage", "What was never read: a split that was held out, or rows of new text", lines=3)
    measure: str = setting("second half to first half", "What the lines and the heads show; the table has all of them", choices=MEASURES)
    show: str = setting("lines", "The figure: the measure over layers, its difference head by head, or all measures as a table", choices=VIEWS)
    tokens: int = setting(0, "How many tokens of each text are read; 0 takes as many as the shortest has", low=0, high=4096)

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.attention._memorized import memorized

        yield from memorized(self, model, data)
