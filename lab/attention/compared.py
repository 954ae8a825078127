"""The attention of two models on the same texts: a model and its edit, or the oracle that never learned."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.attention._segments import HOW, ROLES
from lab.attention.map import VARIANTS
from lab.events import Event
from lab.experiment import Experiment, setting

if TYPE_CHECKING:
    from lab.data import Data
    from models.model import Model


@dataclass(frozen=True, kw_only=True)
class ComparedAttention(Experiment):
    """Both models read the same texts; what is drawn is B - A, the model less what it is compared with. Its standard error is that of the paired differences.

    The map is of the first text, and only where both read the same tokens. Layers are matched from the first on where both models are as deep, else by their
    share of the depth. Beside an oracle, which is the same network but for what was left out, a difference need not be memory: two seeds differ too.
    """

    title = "Attention of two models compared"
    paper = "AIA, arXiv 2511.22663; Kobayashi et al. 2020, arXiv 2004.10102"
    direction = "above zero: this model takes more of it than what it is compared with; below: less"
    random = False
    against: str = setting("", "What it is compared with: before (its last edit), original, or a model's name; empty: before, else an oracle")
    texts: str = setting("forget_10", "A relation of an organism's facts, such as capital; names or splits of items; or rows of text", lines=4)
    segments: str = setting(ROLES, "How each text is cut; marked takes [[name: text]]", choices=HOW)
    marker: str = setting("Question:", "Words with which the question begins, for context, question")
    first_apart: bool = setting(True, "Whether the first token, where heads rest, is a segment of its own")
    layer: int = setting(-1, "Layer of the map; 0 is the first, -1 the last", low=-200, high=199)
    head: int = setting(-1, "Head of the map; 0 is the first, -1 the mean over all", low=-1, high=255)
    variant: str = setting("raw", "What the map shows: weights as they are, times what the values carry, or rolled out", choices=VARIANTS)
    mask_first: bool = setting(False, "Whether the map leaves the first token out; the shares of the others then sum to one")
    most: int = setting(60, "How many texts are read at most, drawn by seed", low=1, high=1000)

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.attention._compared import compared

        yield from compared(self, model, data)
