"""Trains one memory and asks it as it goes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lab.events import Curves, Event, Progress
from lab.recall._arch_measure import Answers, answers
from lab.recall._arch_run import held
from models.errors import BadInput
from models.memory import grown, tasks
from models.memory.designs import DESIGNS, build
from models.memory.train import Recipe, Trainer

if TYPE_CHECKING:
    from lab.recall.learn import Learn

FEW, ASKED, POINTS = 2, 64, 20  # pairs of the easy question; sequences of a measurement; measurements in all, some


def learn(settings: Learn) -> Iterator[Event]:
    """Yields the curves after every measurement."""
    yield Progress(0, settings.steps, "the net is drawn")
    if 3 * settings.pairs + 1 > settings.length:
        raise BadInput(f"{settings.pairs} pairs do not fit into {settings.length} tokens", "a pair and its question take three",
                       f"Take at most {(settings.length - 1) // 3} pairs, or longer sequences", setting="pairs")
    base: Any = grown.load(DESIGNS[settings.memory].base) if DESIGNS[settings.memory].base else None
    recipe = Recipe(steps=settings.steps, batch=settings.batch, length=settings.length, most=settings.pairs, rise=min(40, max(1, settings.steps // 4)))
    trainer = Trainer(build(settings.memory, settings.seed, base), recipe, settings.seed)
    questions = asked(settings)
    points: list[tuple[int, dict[str, Answers]]] = []
    every = max(1, settings.steps // POINTS)
    while True:
        if trainer.done % every == 0 or trainer.done == settings.steps:
            found = {}
            trainer.net.eval()
            for name, batch in questions.items():
                for said in answers(trainer.net, batch):
                    yield Progress(trainer.done, settings.steps, f"step {trainer.done}: asked")
                    if said is not None:
                        found[name] = said
            trainer.net.train()
            points.append((trainer.done, found))
            yield curves(settings, points, trainer)
        if trainer.done == settings.steps:
            return
        trainer.step()
        yield Progress(trainer.done, settings.steps, f"step {trainer.done} of {settings.steps}")


def asked(settings: Learn) -> dict[str, tasks.Batch]:
    """Sequences that are not trained on: their seed is another."""
    generator = torch.Generator().manual_seed(settings.seed + 1_000_003)
    few = min(FEW, settings.pairs)
    return {f"{n} pairs": tasks.associations(ASKED, settings.length, n, generator, power=1.0) for n in dict.fromkeys((few, settings.pairs))} | {
        "passkey": tasks.passkeys(ASKED, settings.length, generator)}


def curves(settings: Learn, points: list[tuple[int, dict[str, Answers]]], trainer: Trainer) -> Curves:
    names = tuple(points[0][1])
    value = np.array([[found[n].right.mean() for _, found in points] for n in names] + [[tasks.CHANCE] * len(points)])
    error = np.array([[found[n].right.std() / len(found[n].right) ** 0.5 for _, found in points] for n in names] + [[np.nan] * len(points)])
    read = trainer.done * settings.batch * settings.length
    facts = (f"{DESIGNS[settings.memory].title}: {sum(p.numel() for p in trainer.net.parameters() if p.requires_grad):,} parameters, {read:,} tokens read; "
             f"{held(trainer.net, settings.length):,} bytes of state after {settings.length} tokens", *appeared(names, value, points))
    return Curves("Recall as it is learned", (*names, "chance"), np.array([step for step, _ in points], float), "step", value, error,
                  "share of questions answered right", settings.direction, facts)


def appeared(names: tuple[str, ...], value: np.ndarray, points: list[tuple[int, dict[str, Answers]]]) -> tuple[str, ...]:
    """From which measurement on half of the answers were right, and stayed so."""
    said = []
    for name, row in zip(names, value, strict=False):
        low = np.flatnonzero(row < 0.5)
        first = 0 if not len(low) else low[-1] + 1
        said.append(f"{name}: " + (f"half are right from step {points[first][0]} on" if first < len(row) else f"{row[-1]:.2f} at step {points[-1][0]}"))
    return ("; ".join(said),)
