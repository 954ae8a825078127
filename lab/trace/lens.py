"""Logit lens: what every layer would say if it were the last."""

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
class LogitLens(Experiment):
    """The hidden state h[t, l] of every token t after every block l goes through the net's own last norm and head, and past all later blocks.

    The figure is p[t, l] = softmax(head(norm(h[t, l])))[a], a being the first token of the answer: 0 to 1. The word in each cell is the likeliest
    one. In the last column this is what the model really says after the tokens up to t. Early layers need not speak the head's language: a
    low value says that the answer cannot be read off there in this way, not that it is absent (Belrose et al. 2023). Nothing is drawn at random.
    """

    title = "Logit lens"
    paper = "nostalgebraist 2020, interpreting GPT: the logit lens; limits and the tuned lens: Belrose et al. 2023, arXiv 2303.08112"
    direction = "higher: read through the model's own head, this state already gives the answer's first token that probability"
    random = False
    prompt: str = setting("The capital of France is", "Beginning of a sentence that the answer completes", lines=2)
    answer: str = setting("", "Word whose first token is looked for in every layer; empty takes what the model itself finds most likely")

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.trace._lens import lens

        yield from lens(self, model)
