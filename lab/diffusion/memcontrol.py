"""Which parts of the denoiser should be fine-tuned, so that it learns the new pictures' kind and not the pictures."""

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
class MemControl(Experiment):
    """Fine-tunes copies of the model on a few pictures of a new kind, each copy with another choice of parts that are trained, and looks for the choices
    that no other beats both in quality and in memorization.

    The new kind is the organism's own plain pictures with colours inverted. Quality is the denoising loss on inverted pictures that were not trained on:
    lower, and it falls only if the kind is learned. Memorization is how like the trained pictures are to what their captions then draw, mean SSIM: lower is
    better. The outer search (Optuna, multi-objective TPE) proposes a yes or no for every block and part and a learning rate; the inner one is the
    fine-tuning. All parts trained stands beside, and for every choice on the front a random choice of as many weights at the same rate: a mask is worth
    something only if it beats those.
    """

    title = "MemControl: which parts to fine-tune"
    paper = "Dutt et al. 2024, arXiv 2405.19458"
    direction = "denoising loss on new pictures of the kind, lower: better quality; similarity to the trained pictures, SSIM, lower: less memorized"
    trials: int = setting(10, "Choices of parts that are tried, the whole denoiser first", low=2, high=500)
    pictures: int = setting(8, "Pictures that each copy is fine-tuned on", low=2, high=256)
    held: int = setting(32, "Pictures of the same kind that quality is measured on", low=2, high=1024)
    tune: int = setting(60, "Steps of the fine-tuning", low=1, high=5000)
    batch: int = setting(8, "Pictures in a step", low=1, high=256)
    least: float = setting(1e-5, "Smallest learning rate that is tried", low=1e-8, high=1.0)
    most: float = setting(1e-3, "Largest learning rate that is tried", low=1e-8, high=1.0)
    matched: bool = setting(True, "Whether random choices of as many weights stand beside the front")
    show: str = setting("front", "The figure: quality against memorization, all choices as a table, or which parts the front trains",
                        choices=("front", "table", "parts"))
    seeds: int = setting(1, "Noises that each trained caption is drawn from, the first of them by seed", low=1, high=16)
    guidance: float = _settings.guidance("Guidance of the pictures that are judged")
    steps: int = _settings.steps()

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.diffusion._memcontrol import memcontrol

        yield from memcontrol(self, model, data)
