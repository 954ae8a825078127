"""Where a picture is remembered in a decoupled transformer: in what reads the condition, or in what draws."""

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
    prompts: str = setting("planted", "Prompts that replay, one a line; planted takes the most copied captions of an organism", lines=3)
    count: int = setting(3, "With planted: how many", low=1, high=16)
    other: str = setting("", "A plain prompt to swap with; empty takes a plain caption of the organism")
    show: str = setting("pictures", "The figure: pictures of every way, or shares of copies and costs as a table", choices=("pictures", "table"))
    seeds: int = setting(4, "Noises that each picture is drawn from, the first of them by seed", low=1, high=16)
    guidance: float = setting(0.0, "How far beyond the text the picture is pushed; 0 takes what the model was grown for", low=0.0, high=30.0)
    steps: int = setting(0, "Denoising steps; 0 takes what the model was grown for", low=0, high=200)

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.diffusion._swap import swap

        yield from swap(self, model, data)
