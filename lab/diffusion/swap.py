"""Where a picture is remembered in a decoupled transformer: in what reads the condition, or in what draws."""

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
class Swap(Experiment):
    """In a decoupled diffusion transformer the text reaches the decoder only through z = Enc(x_t, t, text), one vector a patch. Here z is taken from
    elsewhere while the decoder draws as always: from the same prompt on another noise, from the prompt read beside the picture of another prompt, from its
    own first steps and then never again, or from one prompt in the first half and another in the second.

    If a memorized picture comes back although z was made beside another noise, z names the picture, and the decoder can draw it from its name; if it comes
    back only with the z of its own noisy latents, encoder and decoder have to agree step by step. Sharing z between neighbouring steps, as the paper does to
    draw faster, stands beside with its cost: weights that are passed, over those of drawing without sharing.
    """

    title = "Swap: is the picture in the encoder or in the decoder?"
    paper = "Wang et al. 2025, arXiv 2504.05741 (DDT)"
    direction = "similarity to the memorized picture, SSIM, -1 to 1, higher: nearer to a copy; cost, 0 to 1, lower: faster"
    prompts: str = _settings.prompts()
    count: int = _settings.count(3, high=16)
    other: str = setting("", "A plain prompt to swap with; empty takes a plain caption of the organism")
    show: str = setting("pictures", "The figure: pictures of every way, or shares of copies and costs as a table", choices=("pictures", "table"))
    seeds: int = _settings.seeds()
    guidance: float = _settings.guidance()
    steps: int = _settings.steps()

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.diffusion._swap import swap

        yield from swap(self, model, data)
