"""What does this model remember: every measure of memorization, item by item."""

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
class MemorizationSurvey(Experiment):
    """Measures of memorization of many items: extraction, recall, membership, truth ratio, exposure.

    On an organism the items are its planted facts, passages and codes, with their true copy counts; on any other model they are pasted rows, and the
    measures that need the truth (exposure, truth ratio, the loss against an oracle) are left out. Measures come in as they are done, the cheap ones first.
    """

    title = "Survey of memorization"
    paper = "Carlini et al. 2021, arXiv 2012.07805; Maini et al. 2024, arXiv 2401.06121; Shi et al. 2024, arXiv 2310.16789"
    direction = "stated for every measure: higher is more memorized where its sign is +, lower where it is -"
    random = False  # the seed draws which items are a sample; what is measured of an item is the same
    items: str = setting("sample", "sample (about 350 of every planted kind, split and copy count, drawn by seed), all, names, splits such as forget_10, "
                         "or rows: JSONL, CSV or one text a line", lines=3)
    k: float = setting(20.0, "Share of the least likely tokens that min-k % and min-k++ % average, in percent", low=1.0, high=100.0)
    digits: int = setting(4, "Longest codes whose exposure is measured; one of six digits that is not known takes up to a minute", low=0, high=6)
    say: bool = setting(True, "Whether completions are decoded, for ROUGE-L and recall anywhere")

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.memorization._survey import survey

        yield from survey(self, model, data)
