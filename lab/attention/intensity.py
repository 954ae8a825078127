"""How much one part of a text reads another, layer by layer, over many texts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.attention._segments import HOW, ROLES
from lab.events import Event
from lab.experiment import Experiment, setting

if TYPE_CHECKING:
    from lab.data import Data
    from models.model import Model


@dataclass(frozen=True, kw_only=True)
class Intensity(Experiment):
    """The texts are cut into segments. I(a → b) is the attention that the tokens of a put on all tokens of b: sum over keys, mean over queries, heads, texts.

    Heads rest on the first token, whatever it is; so it is a segment of its own unless that is switched off. A longer segment draws more by its length alone:
    compare layers and models on one cut, not segments of unlike length. What says the answer is the token before it, which belongs to the segment before.
    A target is a band that a pair should lie in, as the loss of AIA asks for.
    """

    title = "Interaction intensity of segments"
    paper = "AIA, arXiv 2511.22663"
    direction = "higher: the first segment takes more of what it reads from the second; from 0 to 1"
    random = False  # the seed draws which texts are read; what is measured of a text is the same
    texts: str = setting("capital", "A relation of an organism's facts, such as capital; names or splits of items; or rows of text", lines=4)
    segments: str = setting(ROLES, "How each text is cut; marked takes [[name: text]]", choices=HOW)
    marker: str = setting("Question:", "Words with which the question begins, for context, question")
    first_apart: bool = setting(True, "Whether the first token, where heads rest, is a segment of its own")
    target: str = setting("", "Bands that pairs should lie in, one a line: answer > subject: 0.1-0.3, layers 0-3", lines=2)
    lines: str = setting("", "Pairs drawn as lines, one a line: answer > subject; empty draws the strongest between two segments", lines=2)
    most: int = setting(60, "How many texts are read at most, drawn by seed", low=1, high=1000)

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.attention._intensity import measured

        yield from measured(self, model, data)
