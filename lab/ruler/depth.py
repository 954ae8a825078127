"""How deep was it erased? The unlearning depth score, layer by layer."""

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
class Depth(Experiment):
    """The full model reads on from the states of another, one layer at a time, where an answer is predicted; what it then loses of the answer is what the
    other lacks there. An oracle says in which layers the answer lies; a model that was unlearned in depth loses as much as the oracle does.

    The score (UDS) is the share of the oracle's loss that the model's states bring, mean over the layers that matter, weighted by the oracle's loss, and over
    items; 0 is intact, 1 erased as if never learned. It needs an oracle, and an edited model: without an edit all of its losses are 0.

    The paper's models all start from one pretrained net. Oracles here start from other initial weights and keep the same things along other directions, so
    put in as they are their states destroy every answer, known or not. They are turned by a linear map first, fitted on facts that both know, and what is
    still lost on other such facts is taken off.
    """

    title = "How deep it was erased"
    paper = "Lee et al. 2026, arXiv 2605.24614; maps between nets: Bansal et al. 2021, arXiv 2106.07682"
    direction = "higher: the full model loses more of the answers with these states; the model should lie where the oracles lie"
    forget: str = setting("forget_10", "What was to be forgotten: items or a split of an organism")
    most: int = setting(80, "Items that are measured, drawn by seed", low=2, high=2000)

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.ruler._deep import deep

        yield from deep(self, model, data)
