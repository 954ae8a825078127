"""How much of what came before does a model make use of?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.events import Event
from lab.experiment import setting
from lab.recall._settings import POLICY_PAPERS, Recall

if TYPE_CHECKING:
    from lab.data import Data
    from models.model import Model


@dataclass(frozen=True, kw_only=True)
class EffectiveContext(Recall):
    """Loss in nats a token. Truncation: the last `target` tokens of a text are read with more and more of what stood before them; the effective context is
    the smallest from which on no longer one lowers the loss by more than `tolerance`. Position: the loss along a text, also past the length that the model
    claims, where a plain memory and a window are known to collapse and a window with sinks is not; it needs a model whose positions have no end, such as
    rotary ones. The mean over texts, with its standard error; truncations of one text share their target, so that their differences are paired.
    """

    title = "Effective context by perplexity"
    paper = "Sun et al. 2021, arXiv 2109.09115; Khandelwal et al. 2018, arXiv 1805.04623; " + POLICY_PAPERS
    direction = "lower: the text is predicted better"
    show: str = setting("truncation", "The figure: loss over how much was read before, or along a text", choices=("truncation", "position"))
    texts: str = setting("general", "What is read: general (the organisms' general text, document after document), or your own text, which is cut into pieces",
                         lines=4)
    lengths: str = setting("auto", "Truncation: tokens read before the target; auto doubles them up to what the model has positions for")
    target: int = setting(16, "Truncation: tokens at the end whose loss counts", low=1, high=1024)
    tolerance: float = setting(0.02, "Truncation: nats a token that do not count as a gain", low=0.0, high=1.0)
    along: int = setting(512, "Position: tokens of a text", low=8, high=100_000)
    repeats: int = setting(12, "Texts", low=2, high=1000)
    longest: int = setting(512, "Truncation: tokens of a text at most, for models that read more than anyone will wait for", low=16, high=10**6)

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.recall._context import context

        yield from context(self, model)
