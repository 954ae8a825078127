"""How faithfully a model holds on to what it read: over distance, among how much else, and through its layers."""

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

SHOWN = ("distance", "distance and load", "recall", "measures", "depth", "which follows recall", "table")
MEASURES = ("cued", "margin", "uncued", "horizontal", "cosine")


@dataclass(frozen=True, kw_only=True)
class Fidelity(Recall):
    """Things are stored in a text by statements, and one of them is asked for. Then its value is swapped for another, and all else stays: what the answer
    does not owe to the swap it does not remember. Cued fidelity is the Jensen-Shannon divergence of the next token with and without the swap, in bits, 0
    to 1; the margin is by how many nats the value that was said beats the other; recall is whether it is the likeliest of all values in stock. Lag: tokens
    between the statement and the cue. Load: statements in the text.

    Beside it, what is left of a token in the states of later tokens (horizontal) and higher layers (vertical), by a linear map fitted on half of the texts:
    our interpretation of MemMamba's token and cross-layer fidelity, whose equations were not at hand. Uncued: how far the swap moves the state at the end
    of the context; cosine: of the states so far apart. None of them asks anything, and the same network before training shows what they are worth: its
    recall is chance. The haystack is another in every row.
    """

    title = "Memory fidelity"
    paper = ("Jensen-Shannon divergence: Lin 1991, doi 10.1109/18.61115; horizontal and vertical after MemMamba, arXiv 2510.03279, our interpretation; "
             + POLICY_PAPERS)
    direction = "higher: more of what was read is still there"
    show: str = setting("distance", "The figure: fidelity over distance, over distance and load, recall, all measures, depth, what goes along with recall, "
                        "or all "
                        "as a table", choices=SHOWN)
    measure: str = setting("cued", "Which measure stands against recall", choices=MEASURES)
    material: str = setting("places", "What is stored: what stands in which room, who owns what, codes, or pairs of random tokens", choices=MATERIALS)
    lags: str = setting("auto", "Tokens between a statement and its cue; auto doubles them up to what the model has positions for")
    loads: str = setting("1, 2, 4", "Statements in the text, one of which is asked for")
    repeats: int = setting(8, "Texts of every cell", low=2, high=1000)
    longest: int = setting(512, "Tokens of a text at most, for models that read more than anyone will wait for", low=16, high=10**6)
    baseline: bool = setting(True, "Whether the same architecture, untrained, is measured beside it")

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.recall._fidelity import fidelity

        yield from fidelity(self, model)
