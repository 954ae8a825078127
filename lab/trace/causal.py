"""Causal tracing: corrupt the subject, restore one clean state, see how much of the answer comes back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.events import Event
from lab.experiment import Experiment, setting

if TYPE_CHECKING:
    from lab.data import Data
    from models.model import Model

KINDS = ("hidden", "mlp", "attention", "severed mlp", "severed attention")
CORRUPTIONS = ("gaussian", "replacement", "mean", "zero")
SCORES = ("probability", "log probability", "logit difference")


@dataclass(frozen=True, kw_only=True)
class CausalTrace(Experiment):
    """The subject is corrupted; then, for every token and layer, what the clean run had there is put back alone.

    What is put back (`kind`): the hidden state after a block; the outputs of the MLPs, or of the attentions, of a window of layers; or, severed,
    the hidden state while the MLPs (attentions) above it at its token are held at what they gave in the corrupted run.
    How the subject is corrupted (`corruption`): noise of `noise` times the standard deviation of the embeddings of known subjects, drawn once, by
    seed, for all cells; other subjects of as many tokens; the mean embedding of known subjects; or zeros.
    The effect of a cell is the mean over the corrupted runs of the score with it restored, less that without. Exact, with an approximation to first
    order (attribution patching) shown before.
    """

    title = "Causal trace"
    paper = "Meng et al. 2022, arXiv 2202.05262; Zhang & Nanda 2024, arXiv 2309.16042"
    direction = "higher: restoring this alone brings more of the answer back"
    prompt: str = setting("The capital of France is", "Beginning of a sentence that the answer completes", lines=2)
    subject: str = setting("France", "Part of the prompt that is corrupted")
    answer: str = setting("", "What should follow the prompt; empty takes what the model itself finds most likely")
    kind: str = setting("hidden", "What is put back", choices=KINDS)
    window: int = setting(0, "Layers of MLPs or attentions put back together; 0 takes 10 in 48 layers, scaled to the model's depth", low=0, high=200)
    corruption: str = setting("gaussian", "What is done to the subject", choices=CORRUPTIONS)
    replacement: str = setting("", "Other subjects of as many tokens, parted by semicolons; empty draws them from those the model has facts about")
    score: str = setting("probability", "How much of the answer is there", choices=SCORES)
    foil: str = setting("", "What the answer is compared with in a logit difference; empty takes what the corrupted runs say")
    normalised: bool = setting(False, "Effects as shares of what the corruption took away")
    samples: int = setting(10, "Corrupted runs to average over; the standard error falls with their square root", low=2, high=100)
    noise: float = setting(3.0, "Strength of the noise, in standard deviations of the subjects' embeddings", low=0.1, high=20.0)
    preview: bool = setting(True, "Show an approximation of all cells first, and run the cells that it finds strongest first")

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.trace._map import trace

        yield from trace(self, model, data)
