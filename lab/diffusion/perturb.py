"""Changing a prompt a little before it is drawn, so that the text steers less: a mitigation that leaves the weights alone."""

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
class Perturb(Experiment):
    """Before a picture is drawn, the prompt's embedding is moved by a few steps of AdamW that lower the norm of what the text adds to the noise at the first
    denoising step: a memorized prompt steers much harder than others. The first token, which begins every prompt, stays. A prompt is let go as soon as its
    norm is at the target.

    Plain captions are treated alike, for whoever draws does not know which prompts are memorized: what the change costs them stands beside.
    """

    title = "Perturb: steer less at the first step"
    paper = "Wen et al. 2024, arXiv 2407.21720"
    direction = "norm of what the text adds to the noise, 0 and up, lower: steers less; similarity, SSIM, -1 to 1, higher: nearer to a copy"
    prompts: str = setting("planted", "Prompts that replay, one a line; planted takes the most copied captions of an organism", lines=3)
    count: int = setting(3, "With planted: how many", low=1, high=32)
    show: str = setting("pictures", "The figure: pictures before and after, the norm by step, or all prompts as a table", choices=("pictures", "norm", "table"))
    length: int = setting(10, "Steps of the change, at most", low=1, high=200)
    lr: float = setting(0.05, "Learning rate of AdamW", low=1e-4, high=10.0)
    target: float = setting(0.0, "Norm to stop at; published for Stable Diffusion with 3; 0 takes the mean of plain captions", low=0.0, high=1e6)
    plain: int = setting(4, "How many plain captions stand beside", low=1, high=64)
    seeds: int = setting(4, "Noises that each picture is drawn from, the first of them by seed", low=1, high=16)
    guidance: float = setting(0.0, "How far beyond the text the picture is pushed; 0 takes what the model was grown for", low=0.0, high=30.0)
    steps: int = setting(0, "Denoising steps; 0 takes what the model was grown for", low=0, high=200)

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.diffusion._perturb import perturb

        yield from perturb(self, model, data)
