"""A trigger of real words: searching prompts, not embeddings, so that what is found can be typed."""

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
    prompts: str = setting("planted", "Captions of the pictures to search for, one a line; planted takes the most copied ones of an organism", lines=3)
    count: int = setting(1, "With planted: how many", low=1, high=16)
    own: bool = setting(False, "Whether words of the picture's own caption may be used")
    words: int = setting(3, "Tokens of the prompt that is searched", low=1, high=32)
    prune: str = setting("none", "What is pruned before the search: nothing, value neurons, or weights of the feed-forwards, for these captions",
                         choices=("none", "nemo", "wanda"))
    until: str = setting("ends alike", "With nemo, when enough is pruned: noises no longer end alike, as published, or no picture is a copy",
                         choices=("ends alike", "pictures"))
    share: float = setting(0.01, "With wanda: the share of every row that may be pruned", low=0.001, high=0.5)
    controls: int = setting(1, "How many pictures that nobody memorized are searched for as well", low=0, high=16)
    show: str = setting("pictures", "The figure: pictures on the way, or the prompts and their losses as a table", choices=("pictures", "table"))
    length: int = setting(40, "Steps of the search", low=1, high=1000)
    tries: int = setting(12, "Prompts that are tried in a step", low=1, high=256)
    near: int = setting(16, "Of how many tokens a place is refilled, those that the gradient likes best", low=1, high=1024)
    batch: int = setting(4, "Noises and timesteps in a step", low=1, high=64)
    seeds: int = setting(2, "Noises that each picture is drawn from, the first of them by seed", low=1, high=16)
    guidance: float = setting(0.0, "How far beyond the text the picture is pushed; 0 takes what the model was grown for", low=0.0, high=30.0)
    steps: int = setting(0, "Denoising steps of a finished picture; 0 takes what the model was grown for", low=0, high=200)
    picture: str = setting("", "A picture to search for instead: a file, or its bytes in base64")

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.diffusion._hard import search

        yield from search(self, model, data)
