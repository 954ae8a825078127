"""A miniature of the two-modality nets, grown while it is watched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from lab.attention._interleave_figures import intensities
from lab.events import Curves, Event, Progress
from models.organisms.interleave.grow import aims
from models.organisms.interleave.recipe import JOINT, TASKS
from models.organisms.interleave.train import Step, Trainer

if TYPE_CHECKING:
    from lab.attention.interleave import Interleave

SMOOTH = 0.8  # of the running means of intensities: a batch of eight rows is noisy
EVERY = 2  # steps between two figures


def grown(settings: Interleave) -> Iterator[Event]:
    """Yields the curves every few steps; stopped, it leaves nothing behind: the net is its own."""
    yield Progress(0, settings.steps, "making a net")
    recipe = replace(JOINT, name="miniature", seed=settings.seed, targets=settings.targets, aia=settings.aia, steps=settings.steps, batch=settings.batch)
    measured = {task: intensities("alone", task).mean(0).tolist() for task in TASKS} if settings.targets not in ("none", "published") else {}
    trainer = Trainer(recipe, aims(recipe, measured))
    history: list[Step] = []
    mean: dict[str, np.ndarray] = {}
    while trainer.done < settings.steps:
        seen = Step({}, {}, {})
        for task in TASKS:
            yield Progress(trainer.done, settings.steps, f"step {trainer.done + 1}: {task}")
            trainer.read(task, seen)
        trainer.update()
        history.append(seen)
        for task, now in seen.intensity.items():
            mean[task] = np.array(now) if task not in mean else SMOOTH * mean[task] + (1 - SMOOTH) * np.array(now)
        if trainer.done % EVERY == 0 or trainer.done == settings.steps:
            yield (layers if settings.show == "grow: intensity" else losses)(settings, trainer, mean, history)


def told(settings: Interleave, trainer: Trainer, history: list[Step]) -> tuple[str, ...]:
    last = history[-1]
    size = sum(p.numel() for p in trainer.net.parameters())
    term = f"AIA term to {settings.targets} targets, weight {settings.aia:g}" if trainer.targets else "no AIA term"
    return (f"step {trainer.done} of {settings.steps}; {size / 1e6:.1f} M parameters, {settings.batch} rows a step of each task; {term}",
            "loss now, in nats a token: " + ", ".join(f"{t} {v:.2f}" for t, v in last.loss.items())
            + ("; AIA loss: " + ", ".join(f"{t} {v:.4f}" for t, v in last.aia.items()) if trainer.targets else ""))


def layers(settings: Interleave, trainer: Trainer, mean: dict[str, np.ndarray], history: list[Step]) -> Curves:
    named = {f"{task} now": value for task, value in mean.items()} | {f"{task} target": aim.numpy() for task, aim in trainer.targets.items()}
    value = np.stack([np.asarray(v, float) for v in named.values()])
    return Curves("Attention to the other modality, as a miniature learns", tuple(named), np.arange(value.shape[1], dtype=float), "layer", value,
                  np.full(value.shape, np.nan), "share of attention", settings.direction, told(settings, trainer, history))


def losses(settings: Interleave, trainer: Trainer, mean: dict[str, np.ndarray], history: list[Step]) -> Curves:
    value = np.array([[step.loss[task] for step in history] for task in TASKS])
    return Curves("Losses of a miniature", tuple(f"{task} loss" for task in TASKS), np.arange(1, len(history) + 1, dtype=float), "step", value,
                  np.full(value.shape, np.nan), "nats a token", "lower is better", told(settings, trainer, history))
