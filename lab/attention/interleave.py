"""Pictures and words in one decoder: how much each task looks at the other modality, and what a loss on that does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.events import Event
from lab.experiment import Experiment, setting

if TYPE_CHECKING:
    from lab.data import Data
    from models.model import Model

MEASURED = ("intensity", "scores", "forgetting", "gradients")
GROWN = ("grow: intensity", "grow: losses")
TASKS = ("generation", "understanding")
TARGETS = ("none", "single", "random", "shuffled", "published")


@dataclass(frozen=True, kw_only=True)
class Interleave(Experiment):
    """Attention interaction alignment on nets that say what a picture shows and paint what a caption says.

    The nets are the lab's own, of 0.7 M parameters, on emoji of 8 x 8 cells; the chosen model is not read. An intensity is the share of attention that
    goes from the positions where an answer is written to the tokens of the other modality. What is measured was measured before, at three seeds
    (`python -m bench.interleave`); what is grown is grown now, from nothing, and is small: it shows the term at work, not what it achieves.
    """

    title = "Pictures and words in one net"
    paper = "Zheng et al. 2025, arXiv 2511.22663; Wei et al. 2025, arXiv 2512.03125"
    direction = "intensity, 0 to 1: higher, more of the attention goes to the other modality"
    asks = False
    show: str = setting("intensity", "What was measured at three seeds, or a miniature grown now", choices=(*MEASURED, *GROWN))
    task: str = setting("generation", "Of which task the figures are, or on which a net was trained further: generation paints what a caption says, "
                        "understanding says what a picture shows", choices=TASKS)
    targets: str = setting("single", "What the AIA term of a miniature pulls to: the measured intensities of nets of one task, random ones, these in another "
                           "order of layers, those published for Janus-Pro; none leaves the term out", choices=TARGETS)
    aia: float = setting(1.0, "Weight of the AIA term of a miniature: 1 is as published, 5 for generation and 10 for understanding", low=0.0, high=100.0)
    steps: int = setting(60, "Steps of a miniature; the measured nets had 240", low=1, high=1000)
    batch: int = setting(8, "Rows a step of each task of a miniature; the measured nets had 16", low=1, high=32)

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        if self.show in MEASURED:
            from lab.attention._interleave_shown import shown

            yield from shown(self)
        else:
            from lab.attention._interleave_grown import grown

            yield from grown(self)
