"""What a mitigation is judged by, never the prompt alone: replay of the prompts, other memories, and quality."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import torch
from torch import Tensor

from lab.diffusion._ask import Asked
from lab.diffusion._goal import Goal, draw, goals, likeness, of_row
from lab.diffusion._localize import others
from lab.diffusion._quality import WANTED, Examiner
from lab.events import Edited, Event, Progress, Unlearning
from lab.progress import retold
from lab.unlearn._curves import Curves
from models.model import Model
from models.pipeline import Pipeline, words

REPLAY, SIMILAR, LOSS = "copies, share of noises", "similarity, SSIM", "training loss"


class Scoreboard:
    """Series of a run that edits a model: `at` (steps so far) counts as its axis."""

    def __init__(self, title: str, model: Model, asked: Asked, picture: str, beside: int, plain: int, seed: int) -> None:
        """`beside` other memories are looked at, and `plain` captions for quality."""
        self.model, self.asked = model, asked
        self.goals: tuple[Goal, ...] = goals(asked, model, picture)
        untouched, _ = others(asked, beside) if beside else ((), ())
        rows = [row for p in untouched if (row := asked.truth.row(p)) is not None]
        self.untouched = tuple(of_row(asked, model.device, row, p) for row, p in zip(rows, untouched, strict=True))
        with torch.no_grad():
            captions = asked.net.embed(words(model, untouched)) if untouched else asked.embedding[:0]
        self.embedding = torch.cat([asked.embedding, captions])
        self.examiner = Examiner(model, asked, plain, seed) if plain else None
        self.curves = Curves(title)
        self.at, self.cost, self.total = 0, 0.0, 1
        self.facts: list[str] = list(asked.facts)
        if not asked.truth.rows:
            self.facts.append("nobody knows this model's training pictures: the goal is what it draws itself, or the picture that was given")

    def measure(self, net: Pipeline) -> Iterator[Event]:
        """Draws everything with `net` and puts it down."""
        a, wanted = self.asked, (*self.goals, *self.untouched)
        drawn = yield from self.told(draw(net, self.embedding, a.blank, a.seeds, a.steps, a.guidance), "drawing prompts and other memories")
        score, n = likeness(drawn, wanted), len(self.goals)
        copied = (score > a.truth.threshold).float().mean(1)
        self.put(REPLAY, "its prompt", "down", copied[:n])
        self.put(SIMILAR, "its prompt", "down", score[:n])
        if self.untouched:
            self.put(REPLAY, "other memories", "up", copied[n:])
            self.put(SIMILAR, "other memories", "up", score[n:])
        self.drawn = drawn
        if self.examiner:
            found = yield from self.told(self.examiner.examine(net), "quality of plain captions")
            for name, value in found.named_values().items():
                if value == value:
                    self.curves.put(self.at, name, "plain captions", WANTED[name], value)

    def put(self, group: str, name: str, better: str, values: Tensor) -> None:
        self.curves.put(self.at, group, name, better, float(values.float().mean()))

    def told(self, run: Generator[Any, None, Any], note: str) -> Generator[Event, None, Any]:
        return (yield from retold(run, lambda said: Progress(self.at, self.total, f"{note}: {said}" if isinstance(said, str) else note)))

    def event(self, change: tuple[tuple[str, ...], list[float]], ended: str = "", more: tuple[str, ...] = ()) -> Unlearning:
        return self.curves.event(change[0], change[1], (), self.cost, (*self.facts, *more), ended)

    def edited(self, model: Model) -> Edited:
        """The model as it is, with the mean similarity of its prompts in the place of a loss."""
        return Edited(self.at, model, self.last(SIMILAR, "its prompt"))

    def last(self, group: str, name: str) -> float:
        values = self.curves._value.get((group, name), {})
        return values[max(values)] if values else float("nan")

