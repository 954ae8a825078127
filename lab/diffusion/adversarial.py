"""Fine-tuning against the triggers that a search finds, round after round."""

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
    prompts: str = setting("planted", "Captions of the pictures to erase, one a line; planted takes the most copied ones of an organism", lines=3)
    count: int = setting(2, "With planted: how many", low=1, high=32)
    rounds: int = setting(5, "Rounds of search and tuning", low=1, high=50)
    tune: int = setting(50, "Steps of AdamW in a round", low=1, high=2000)
    lr: float = setting(3e-4, "Learning rate of the tuning", low=1e-7, high=1.0)
    batch: int = setting(16, "Pictures of each kind in a step: surrogates on triggers, and plain training pictures", low=1, high=256)
    keep: float = setting(1.0, "Weight of the denoising loss on plain training pictures", low=0.0, high=100.0)
    starts: int = setting(2, "Searches for every picture in a round: the first begins at the caption, the others at random numbers", low=1, high=16)
    length: int = setting(50, "Steps of a search", low=1, high=500)
    controls: int = setting(1, "Pictures that nobody memorized, searched for in every round with the same budget", low=0, high=16)
    surrogate: str = setting("pruned", "What triggers are to draw: what the pruned model draws, or what is drawn without text", choices=("pruned", "no text"))
    spare: bool = setting(False, "Whether other planted pictures are trained on as well, so that they are kept; published without")
    beside: int = setting(4, "How many other memories are looked at", low=0, high=32)
    plain: int = setting(12, "How many plain captions the quality is measured on", low=2, high=256)
    seeds: int = setting(4, "Noises that each picture is drawn from, the first of them by seed", low=1, high=16)
    guidance: float = setting(0.0, "Guidance of all pictures that are judged; 0 takes what the model was grown for", low=0.0, high=30.0)
    steps: int = setting(0, "Denoising steps; 0 takes what the model was grown for", low=0, high=200)
    picture: str = setting("", "The picture to erase, where nobody knows it: a file, or its bytes in base64")

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.diffusion._adversarial import adversarial

        yield from adversarial(self, model, data)
