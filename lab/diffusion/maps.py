"""Where in the picture each word of the prompt is read, step by step and layer by layer."""

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
class WordMaps(Experiment):
    """The cross-attention from every place of the picture to every token of the prompt, laid over the picture: mean over heads, brought to one size
    (bicubic), of the half of the denoiser that sees the text. The first frame is the mean over all steps and layers so far, which is DAAM.

    Each map has its own scale, from zero to its largest value; how much of all attention a token takes stands under it. The marks that begin and end the
    prompt are tokens too. When the end mark holds the attention at the last steps, Chen et al. 2024 call that a bright ending and find it in memorized
    pictures. In a joint transformer (SD3) the map is the slice from the picture to the text.
    """

    title = "Words: where in the picture each is read"
    paper = "DAAM: Tang et al. 2022, arXiv 2210.04885; bright ending: Chen et al. 2024, arXiv 2410.21665"
    direction = "share of attention, 0 to 1, higher: more of the picture's attention goes to this token"
    prompt: str = _settings.prompt()
    guidance: float = _settings.guidance(_settings.ALONE)
    steps: int = _settings.steps()
    layers: str = setting("mean", "One row for the mean over layers, or one for each layer too", choices=("mean", "each"))
    coarsest: bool = setting(False, "Whether the layers with the fewest places are part of the mean; DAAM leaves them out")
    show: str = setting("maps", "The figure: the maps, or the share of every token over the steps", choices=("maps", "shares"))

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.diffusion._maps import maps

        yield from maps(self, model, data)
