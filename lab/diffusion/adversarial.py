"""Fine-tuning against the triggers that a search finds, round after round."""

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
class AdversarialTuning(Experiment):
    """Rounds of: search for triggers of the memorized pictures in the model as it now is; then train the whole denoiser so that these triggers, and those of
    the rounds before, and the captions, draw surrogate pictures instead, while the denoising loss on plain training pictures is kept low.

    Surrogates are what the pruned model draws of the same captions, where that is no copy; where pruning does not stop the copies, what the model draws
    without any text. Each round's search is the measure of the rounds before: it begins anew, from other random numbers and with other noise. Shown are the
    share of copies from the prompt, from searches, of controls that nobody memorized, and of other memories, and the quality of plain captions: held-out
    denoising loss, whether pictures show what was asked, and a Fréchet distance to real pictures.
    """

    title = "Adversarial fine-tuning: train against the triggers"
    paper = "Sun et al. 2025, arXiv 2507.16880 (Finding Dori)"
    direction = "copies of prompts and of searches: lower is better; of other memories: higher; denoising loss and Fréchet distance: lower; named right: higher"
    prompts: str = _settings.prompts("erase")
    count: int = _settings.count(2)
    rounds: int = setting(5, "Rounds of search and tuning", low=1, high=50)
    tune: int = setting(50, "Steps of AdamW in a round", low=1, high=2000)
    lr: float = setting(3e-4, "Learning rate of the tuning", low=1e-7, high=1.0)
    batch: int = setting(16, "Pictures of each kind in a step: surrogates on triggers, and plain training pictures", low=1, high=256)
    keep: float = setting(1.0, "Weight of the denoising loss on plain training pictures", low=0.0, high=100.0)
    starts: int = setting(2, "Searches for every picture in a round: the first begins at the caption, the others at random numbers", low=1, high=16)
    length: int = setting(50, "Steps of a search", low=1, high=500)
    controls: int = setting(1, "Pictures that nobody memorized, searched for in every round with the same budget", low=0, high=16)
    surrogate: str = setting("pruned", "What triggers are to draw: what the pruned model draws, or what is drawn without text", choices=("pruned", "no text"))
    spare: bool = _settings.spare()
    beside: int = _settings.beside()
    plain: int = _settings.plain()
    seeds: int = _settings.seeds()
    guidance: float = _settings.guidance("Guidance of all pictures that are judged")
    steps: int = _settings.steps()
    picture: str = _settings.picture("The picture to erase, where nobody knows it")

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.diffusion._adversarial import adversarial

        yield from adversarial(self, model, data)
