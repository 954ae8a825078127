"""A trigger of real words: searching prompts, not embeddings, so that what is found can be typed."""

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
class HardPrompt(Experiment):
    """Looks for a prompt of real tokens that draws a given picture. In every step the gradient of the picture's denoising loss with respect to the tokens'
    embeddings says which other tokens would lower it (greedy coordinate gradient); some prompts with one token replaced by one of these are tried at the same
    noise, and the best stays.

    Only tokens that can be typed by themselves are used, and the words of the picture's own caption can be forbidden: then a prompt that brings it back is
    another way in. Controls are pictures that were only trained augmented.
    """

    title = "Hard prompts: a trigger that can be typed"
    paper = "Zou et al. 2023, arXiv 2307.15043 (GCG); Wen et al. 2023, arXiv 2302.03668; Sun et al. 2025, arXiv 2507.16880"
    direction = "similarity to the goal, SSIM, -1 to 1, higher: nearer to a copy; denoising loss, lower: the prompt fits the picture better"
    prompts: str = _settings.prompts("search for")
    count: int = _settings.count(1, high=16)
    own: bool = setting(False, "Whether words of the picture's own caption may be used")
    words: int = setting(3, "Tokens of the prompt that is searched", low=1, high=32)
    prune: str = _settings.prune()
    until: str = _settings.until()
    share: float = _settings.share()
    controls: int = setting(1, "How many pictures that nobody memorized are searched for as well", low=0, high=16)
    show: str = setting("pictures", "The figure: pictures on the way, or the prompts and their losses as a table", choices=("pictures", "table"))
    length: int = setting(40, "Steps of the search", low=1, high=1000)
    tries: int = setting(12, "Prompts that are tried in a step", low=1, high=256)
    near: int = setting(16, "Of how many tokens a place is refilled, those that the gradient likes best", low=1, high=1024)
    batch: int = setting(4, "Noises and timesteps in a step", low=1, high=64)
    seeds: int = _settings.seeds(2)
    guidance: float = _settings.guidance()
    steps: int = _settings.steps("a finished picture")
    picture: str = _settings.picture("A picture to search for instead")

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.diffusion._hard import search

        yield from search(self, model, data)
