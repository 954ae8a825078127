"""Searching the space of text embeddings for what brings a picture back, also out of a model that was pruned."""

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
class TriggerSearch(Experiment):
    """Optimises text embeddings until the model draws a given picture: Adam on the denoising loss of that picture over the embedding alone, with fresh noise
    and timesteps in every step, from several starts side by side. Starts are the caption, standard normal numbers, or captions of other pictures.

    The model may be pruned first. If a search brings the picture back, pruning hid it and did not erase it (Finding Dori).

    A search finds something of any picture, so controls stand beside: pictures that were only trained augmented, searched with the same budget. Only what
    the planted pictures have above these is memory. A picture is copied where its SSIM with the goal is above the organism's threshold; a start has brought
    the picture back where more than half of the noises copy it.
    """

    title = "Trigger search: what else brings the picture back?"
    paper = "Sun et al. 2025, arXiv 2507.16880 (Finding Dori)"
    direction = "similarity to the goal, SSIM, -1 to 1, higher: nearer to a copy; distance in embedding space, 0 and up, higher: further apart"
    prompts: str = _settings.prompts("search for")
    count: int = _settings.count(1)
    prune: str = _settings.prune()
    until: str = _settings.until()
    share: float = _settings.share()
    begin: str = setting("all", "Where searches start: random numbers, captions of other pictures, the caption itself, or all three in turn",
                         choices=("random", "other prompts", "caption", "all"))
    starts: int = setting(3, "Starts for every picture", low=1, high=64)
    controls: int = setting(1, "How many pictures that nobody memorized are searched for as well", low=0, high=32)
    show: str = setting("pictures", "The figure: pictures on the way, similarity by step, every start as a table, the embeddings as a map, or the mean "
                        "distances between groups of them", choices=("pictures", "similarity", "table", "map", "distances"))
    length: int = setting(50, "Steps of the search; published with 50, and with many more a plain picture is found too", low=1, high=1000)
    lr: float = setting(0.1, "Learning rate of Adam", low=1e-4, high=10.0)
    batch: int = setting(8, "Noises and timesteps in a step of every start", low=1, high=64)
    seeds: int = _settings.seeds(2)
    guidance: float = _settings.guidance("How far beyond the embedding the picture is pushed: 1 is the embedding alone")
    steps: int = _settings.steps("a finished picture")
    picture: str = _settings.picture("A picture to search for instead")

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.diffusion._trigger import search

        yield from search(self, model, data)
