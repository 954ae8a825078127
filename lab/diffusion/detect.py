"""Which prompts bring a training picture back, told without looking at the training pictures."""

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
class Detect(Experiment):
    """Scores of prompts that are meant to be high where a training picture is memorized, beside what is true of an organism.

    Three read the first step alone: how much noise the text adds (Wen et al. 2024), how alike the pictures are that it sees from different noises, and how
    sharp the density is there (Jeon et al. 2025). The others draw the pictures: Wen's score over all steps, how alike the finished pictures of different
    noises are (Carlini et al. 2023), and the attention of the end mark (Chen et al. 2024).

    No score knows what memory is. Several also fire on a caption that leaves little open, such as one that names the background: so the captions that
    are compared with can be chosen, and both figures belong together. The area under the ROC curve (AUC) is the chance that a memorized caption scores above
    another: .5 is guessing. The share found at 1 % false alarms means little below a hundred others; how many there were is always said.
    """

    title = "Detect: scores of memorization"
    paper = "Wen et al. 2024, arXiv 2407.21720; Carlini et al. 2023, arXiv 2301.13188; Jeon et al. 2025, arXiv 2412.04140; Chen et al. 2024, arXiv 2410.21665"
    direction = "stated for every score: higher is more memorized where its sign is +, lower where it is -; AUC, 0 to 1, higher: told apart better"
    prompts: str = setting("known", "known takes captions of the organism, whose truth is known; or one prompt a line", lines=4)
    least: int = setting(64, "From how many copies on a planted caption counts as memorized; those below are scored, and count as neither", low=1, high=100000)
    negatives: str = setting("both", "What memorized captions are compared with: plain captions (a name), strongly specifying ones (a name on a coloured "
                             "background), or both", choices=("plain", "specifying", "both"))
    most: int = setting(12, "How many captions at most of each kind, drawn by seed", low=2, high=500)
    seeds: int = setting(4, "How many noises each prompt is scored from, the first of them by seed", low=2, high=16)
    measures: str = setting("first step", "The scores that read the first step alone, or all of them", choices=("first step", "all"))
    guidance: float = _settings.guidance("Of the steps after the first: 1 is the text alone")
    steps: int = _settings.steps()
    probes: int = setting(2, "Random directions in which the curvature is measured", low=1, high=64)
    show: str = setting("auc", "The figure at the end: how well each score tells, its ROC curves, each score against copies, every prompt, or the noise "
                        "that the text adds at every step (with all scores only)", choices=("auc", "roc", "copies", "prompts", "steps"))
    score: str = setting("noise, first step", "Which score is shown against copies", choices=(
        "noise, first step", "first sight", "sharpness", "curvature", "noise, all steps", "tiles", "embedder", "bright ending", "end attention"))

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.diffusion._detect import detect

        yield from detect(self, model, data)
