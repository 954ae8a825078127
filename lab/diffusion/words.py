"""Which word of a prompt carries the memory."""

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
class WordScores(Experiment):
    """Shares out, over the tokens of a prompt, the noise that the text adds at the first step (Wen et al. 2024): by the size of its gradient on the rows that
    the denoiser reads, as they do, by the size of its gradient on what the text encoder reads, and by what of it is lost when the token is left out. The
    rows that the denoiser reads have already read the words before them, so the first gradient can fall on a mark at the end where no word stands.

    A score is not the memory. The last row draws the picture again without each token and says what is lost of the similarity to the training picture that
    came back: where that is large, the token is needed.
    """

    title = "Words: which one carries the memory"
    paper = "Wen et al. 2024, arXiv 2407.21720; leaving out: Li et al. 2016, arXiv 1612.08220"
    direction = "share, 1 at most, higher: this token carries more of it; below 0, leaving it out raises what is measured"
    prompt: str = _settings.prompt()
    seeds: int = setting(4, "How many noises it is measured from, the first of them by seed", low=1, high=16)
    redraw: bool = setting(True, "Whether the picture is drawn again without each token, where it is known what the model was trained on")
    guidance: float = _settings.guidance("Of the pictures: 1 is the text alone")
    steps: int = _settings.steps("the pictures")

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.diffusion._words import attribute

        yield from attribute(self, model, data)
