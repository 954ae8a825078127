"""Changing a prompt a little before it is drawn, so that the text steers less: a mitigation that leaves the weights alone."""

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
class Perturb(Experiment):
    """Before a picture is drawn, the prompt's embedding is moved by a few steps of AdamW that lower the norm of what the text adds to the noise at the first
    denoising step: a memorized prompt steers much harder than others. The first token, which begins every prompt, stays. A prompt is let go as soon as its
    norm is at the target.

    Plain captions are treated alike, for whoever draws does not know which prompts are memorized: what the change costs them stands beside.
    """

    title = "Perturb: steer less at the first step"
    paper = "Wen et al. 2024, arXiv 2407.21720"
    direction = "norm of what the text adds to the noise, 0 and up, lower: steers less; similarity, SSIM, -1 to 1, higher: nearer to a copy"
    prompts: str = _settings.prompts()
    count: int = _settings.count(3)
    show: str = setting("pictures", "The figure: pictures before and after, the norm by step, or all prompts as a table", choices=("pictures", "norm", "table"))
    length: int = setting(10, "Steps of the change, at most", low=1, high=200)
    lr: float = setting(0.05, "Learning rate of AdamW", low=1e-4, high=10.0)
    target: float = setting(0.0, "Norm to stop at; published for Stable Diffusion with 3; 0 takes the mean of plain captions", low=0.0, high=1e6)
    plain: int = setting(4, "How many plain captions stand beside", low=1, high=64)
    seeds: int = _settings.seeds()
    guidance: float = _settings.guidance()
    steps: int = _settings.steps()

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.diffusion._perturb import perturb

        yield from perturb(self, model, data)
