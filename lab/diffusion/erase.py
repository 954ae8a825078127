"""The unlearning losses of language models, on the denoising loss of a picture."""

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
class Erase(Experiment):
    """Trains the denoiser so that it denoises the memorized pictures under their captions worse. L is the denoising loss, d the numbers of a latent.

    gradient ascent: minimises -L(forget). gradient difference: -L(forget) + a L(retain). npo: -(2 / b) log sigmoid(b d (L - L before) / 2) of each forget
    picture + a L(retain): d L / 2 stands where a language model has the negative log-likelihood, as in preference tuning of diffusion models (Wallace et al.
    2024), L and L before at the same noise. Retain pictures are plain training pictures. Shown beside the losses are the share of copies, other memories and
    the quality of plain captions; trigger search on the model that is handed on says whether the picture is really gone.
    """

    title = "Erase: unlearning losses on the denoising loss"
    paper = "Zhang et al. 2024, arXiv 2404.05868; Maini et al. 2024, arXiv 2401.06121; on diffusion: Wallace et al. 2024, arXiv 2311.12908"
    direction = "copies of prompts: lower is better; of other memories: higher; denoising loss and Fréchet distance: lower; named right: higher"
    prompts: str = _settings.prompts("erase")
    count: int = _settings.count(2)
    method: str = setting("npo", "What is minimised", choices=("gradient ascent", "gradient difference", "npo"))
    length: int = setting(60, "Steps of AdamW", low=1, high=2000)
    lr: float = setting(1e-4, "Learning rate", low=1e-7, high=1.0)
    batch: int = setting(16, "Pictures of each set in a step", low=1, high=256)
    keep: float = setting(1.0, "Weight a of the loss on plain training pictures", low=0.0, high=100.0)
    beta: float = setting(0.1, "With npo, its inverse temperature b: the larger, the sooner a forgotten picture is left alone", low=1e-4, high=100.0)
    measure: int = setting(20, "Steps from one measurement to the next", low=1, high=500)
    spare: bool = _settings.spare()
    beside: int = _settings.beside()
    plain: int = _settings.plain()
    seeds: int = _settings.seeds()
    guidance: float = _settings.guidance("Guidance of all pictures that are judged")
    steps: int = _settings.steps()
    picture: str = _settings.picture("The picture to erase, where nobody knows it")

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.diffusion._erase import erase

        yield from erase(self, model, data)
