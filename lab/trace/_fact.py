"""The settings of every experiment about one fact and noise on its subject."""

from __future__ import annotations

from dataclasses import dataclass

from lab.experiment import Experiment, setting


@dataclass(frozen=True, kw_only=True)
class OneFact(Experiment):
    prompt: str = setting("The capital of France is", "Beginning of a sentence that the answer completes", lines=2)
    subject: str = setting("France", "Part of the prompt that is corrupted with noise")
    answer: str = setting("", "What should follow the prompt; empty takes what the model itself finds most likely")
    samples: int = setting(10, "Noise samples to average over; the standard error falls with their square root", low=2, high=100)
    noise: float = setting(3.0, "Strength of the noise, in standard deviations of the subjects' embeddings", low=0.1, high=20.0)
