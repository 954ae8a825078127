"""Causal tracing of hidden states: corrupt the subject, restore one clean state, see how much of the answer comes back."""

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
class CausalTrace(Experiment):
    """Gaussian noise on the subject's embeddings; then, for every token and layer, the clean hidden state is put back alone.

    The noise has `noise` times the standard deviation of the embeddings of the subjects that the model knows facts about, and is
    drawn once, by seed, for all cells. The score is the probability of the whole answer, its tokens taken one after the other.
    """

    title = "Causal trace of hidden states"
    paper = "Meng et al. 2022, arXiv 2202.05262"
    direction = "higher: restoring this state alone brings more of the answer's probability back"
    prompt: str = setting("The capital of France is", "Beginning of a sentence that the answer completes", lines=2)
    subject: str = setting("France", "Part of the prompt that is corrupted with noise")
    answer: str = setting("", "What should follow the prompt; empty takes what the model itself finds most likely")
    samples: int = setting(10, "Noise samples to average over; the standard error falls with their square root", low=2, high=100)
    noise: float = setting(3.0, "Strength of the noise, in standard deviations of the subjects' embeddings", low=0.1, high=20.0)

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.trace._restore import trace

        yield from trace(self, model, data)
