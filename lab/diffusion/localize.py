"""Which few neurons bring a picture back, what else their absence costs, and whether they are the same for every prompt and noise."""

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
class Localize(Experiment):
    """Finds what to prune so that prompts no longer bring their pictures back, prunes it, and looks at what became of these, of other memories and of plain
    captions. The pruned model is handed on.

    nemo: value neurons of cross-attention, the outputs of its value matrices, that answer to the prompt unusually strongly. A threshold falls from 5 to 1
    standard deviations above plain prompts, while the k most active neurons of every layer are added, k rising by one, until different noises no longer end
    alike: the largest SSIM between what the first denoising step takes away from two of them is at most the mean plus one deviation of plain prompts. Then
    layers, and of those left neurons, are given back one by one wherever that keeps it so. A prompt that merely says much also ends alike, so pictures
    themselves can be asked instead: until none of the noises' pictures is a copy.

    wanda: of every row of the feed-forwards' second matrices the weights of largest size times norm of their input, where that is larger than without a
    prompt, over the first third of the denoising steps.

    Pruning is judged by pictures, not by its own criterion: the share of noises whose picture is a copy, before and after, and of what. Finding Dori (Sun et
    al. 2025) doubts that such a set is where the memory is: overlap finds it again from other noises and compares.
    """

    title = "Localize: which neurons bring the picture back?"
    paper = "Hintersdorf et al. 2024, arXiv 2406.02366; Chavhan et al. 2024, arXiv 2406.18566; questioned by Sun et al. 2025, arXiv 2507.16880"
    direction = "neurons of a layer: as counted; similarity, SSIM, -1 to 1, higher: nearer to a copy; overlap, 0 to 1, higher: more the same set"
    prompts: str = _settings.prompts()
    count: int = _settings.count(3)
    method: str = setting("nemo", "What is pruned: value neurons of cross-attention, or weights of the feed-forwards", choices=("nemo", "wanda"))
    show: str = setting("pictures", "The figure: pictures before and after, what is pruned in every layer, what it costs as a table, or how much the sets of "
                        "prompts and noises overlap", choices=("pictures", "neurons", "table", "overlap"))
    where: str = setting("all", "Which layers may lose neurons; published for the contracting half of a UNet and its middle", choices=("all", "down and mid"))
    until: str = setting("ends alike", "With nemo, when the search has found enough: noises no longer end alike after the first step, as published, or none of "
                         "their pictures is a copy, which takes longer", choices=("ends alike", "pictures"))
    noises: int = setting(10, "Noises that a search compares", low=2, high=32)
    share: float = _settings.share()
    others: str = setting("", "Plain prompts, one a line, against which an activation is unusual; empty takes the organism's plain captions", lines=3)
    beside: int = setting(6, "How many other memories, and how many plain captions, are looked at", low=1, high=32)
    seeds: int = _settings.seeds()
    guidance: float = _settings.guidance(_settings.ALONE)
    steps: int = _settings.steps()
    picture: str = setting("", "Where nobody knows the training picture: the picture that the prompt brings back, a file or its bytes in base64")

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.diffusion._localize import localize

        yield from localize(self, model, data)
