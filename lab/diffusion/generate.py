"""Pictures of prompts, step by step, each beside the nearest training picture."""

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
class Generate(Experiment):
    """Draws every prompt from several noises and looks up, after every step, which training picture each is nearest to. A picture that comes back from
    every noise was memorized; one that differs from noise to noise was not.

    Before the last step the picture shown is the one that the model would end at if it stopped there. It is compared by SSIM (structural similarity, Wang et
    al. 2004): 1 is the same picture, and above the organism's threshold it counts as a copy. The threshold was set by models that never saw the planted
    pictures. Under each picture stand two more measures of the same pair: the largest difference among 4 x 4 tiles, which a shared plain ground does not
    make smaller (Carlini et al. call .15 and below a copy), and the cosine of a copy-detection embedder, where the organism has one. A picture of your own
    can take the place of the training pictures.
    """

    title = "Generate: does the training picture come back?"
    paper = "Carlini et al. 2023, arXiv 2301.13188; Somepalli et al. 2023, arXiv 2212.03860; DDIM: Song et al. 2021, arXiv 2010.02502"
    direction = "similarity to the nearest training picture, SSIM, -1 to 1, higher: nearer to a copy"
    prompts: str = setting("sample", "One prompt a line; sample takes a caption of every kind that the organism was trained on", lines=4)
    seeds: int = setting(4, "How many noises each prompt is drawn from, the first of them by seed", low=1, high=16)
    guidance: float = _settings.guidance(_settings.ALONE)
    steps: int = _settings.steps()
    picture: str = setting("", "A picture to compare with instead of the training pictures: a file, or its bytes in base64; empty takes the training pictures")

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.diffusion._generate import generate

        yield from generate(self, model, data)
