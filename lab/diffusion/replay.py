"""How often a training picture comes back, over how often it was planted and over guidance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.diffusion import _settings
from lab.events import Event
from lab.experiment import Experiment, setting

if TYPE_CHECKING:
    from lab.data import Data
    from models.model import Model


@dataclass(frozen=True, kw_only=True)
class Replay(Experiment):
    """Draws captions of every copy count from several noises, at several guidances, and counts the pictures whose SSIM with a training picture is above the
    organism's threshold. Beside the planted captions stand those that were only seen augmented and those that were never trained: they say how often a
    picture counts as a copy though nothing was memorized.

    The error is the standard error of the mean over captions, for the noises of one caption are not independent.
    """

    title = "Replay: how often the picture comes back"
    paper = "Carlini et al. 2023, arXiv 2301.13188; Somepalli et al. 2023, arXiv 2305.20086 (copies); Ho & Salimans 2022, arXiv 2207.12598 (guidance)"
    direction = "share of pictures that are copies, 0 to 1, higher: more is memorized"
    over: str = setting("copies", "What the curves run over: copies, a curve for every guidance; guidance, one for every kind of caption; or a table of both",
                        choices=("copies", "guidance", "both"))
    guidances: str = setting("1, 2, 4", "Guidances, parted by commas: 1 is the text alone")
    most: int = setting(3, "How many captions at most of each kind and copy count, drawn by seed", low=1, high=100)
    seeds: int = setting(2, "How many noises each caption is drawn from, the first of them by seed", low=1, high=32)
    steps: int = _settings.steps()

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.diffusion._replay import replay

        yield from replay(self, model, data)
