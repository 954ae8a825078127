"""A run that searches prompts of real words."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import torch

from lab.data import Data
from lab.diffusion import _goal
from lab.diffusion._album import Album
from lab.diffusion._goal import controls, draw, goals, likeness
from lab.diffusion._hard_search import Reader, Search
from lab.diffusion._prune import STEPS
from lab.diffusion._trigger import prune
from lab.events import Edited, Event, Pictures, Progress, Table
from lab.progress import retold
from models.model import Model
from models.pipeline import Pipeline, pictures, tokens

if TYPE_CHECKING:
    from lab.diffusion.hard import HardPrompt

PEEKS = 4


def search(settings: HardPrompt, model: Model, data: Data) -> Iterator[Event]:
    """Yields what the prompts draw on the way, and the figure."""
    yield Progress(0, settings.length, "reading the vocabulary")
    run = Run(settings, model, data)
    if settings.prune != "none":
        pruned = yield from prune(settings, model, run.asked, run.goals[: run.targets])  # type: ignore[arg-type]
        run.net = pruned.net  # type: ignore[assignment]
        run.lines.append(f"pruned: {pruned.via}")
        yield Edited(0, pruned)
    run.start()
    yield from run.look(0, STEPS)
    stops = {round(settings.length * i / PEEKS) for i in range(1, PEEKS)}
    for i in range(1, settings.length + 1):
        for work in run.works:
            for _ in work.step():
                yield Progress(i, settings.length, f"step {i} of {settings.length}: {run.reader.text(run.works[0].free)}")
        run.keep(i)
        if i in stops and i < settings.length:
            yield from run.look(i, STEPS)
    yield from run.look(settings.length, run.asked.steps)


class Run:
    def __init__(self, settings: HardPrompt, model: Model, data: Data) -> None:
        self.settings, self.model = settings, model
        self.asked = asked = _goal.ask(settings, model, data, settings.count)
        self.reader = Reader(model, settings.words)
        self.goals = (*goals(asked, model, settings.picture), *controls(asked, model, settings.controls, settings.seed))
        self.targets = len(asked.prompts)
        self.net: Pipeline = pictures(model)
        self.lines = list(asked.facts)
        rows = [f"{g.prompt}{' · control' if i >= self.targets else ''}" for i, g in enumerate(self.goals)]
        self.album = Album("What prompts draw on the way to the goal", rows, [f"seed {s}" for s in asked.seeds], ("step", "goal", "noise"), asked.truth, model,
                           self.goals)
        self.history: list[list[tuple[str, float]]] = []  # step by step, of every goal the prompt and its loss
        self.score: list[torch.Tensor] = []

    def start(self) -> None:
        s = self.settings
        self.works = []
        for i, goal in enumerate(self.goals):
            own = set() if s.own else {self.model.tokenizer.convert_tokens_to_ids(w) for w in tokens(self.model, goal.prompt)}
            own |= set() if s.own else set(self.model.tokenizer(goal.prompt, add_special_tokens=False).input_ids)
            banned = sorted(t for t in own if t is not None and 0 <= t < len(self.reader.table))
            self.works.append(Search(self.net, self.reader, goal.latent, banned, s.seed + i, tries=s.tries, near=s.near, batch=s.batch))
        self.keep(0)

    def keep(self, step: int) -> None:
        self.history.append([(self.reader.text(w.free), w.loss) for w in self.works])

    def look(self, step: int, steps: int) -> Generator[Event, None, None]:
        a = self.asked
        embedding = torch.cat([self.reader.read(w.free[None]) for w in self.works])
        run = draw(self.net, embedding, a.blank, a.seeds, min(steps, a.steps), a.guidance)
        drawn = yield from retold(run, lambda _: Progress(step, self.settings.length, "looking"))
        self.score.append(likeness(drawn, self.goals))
        self.album.add(f"step {step}", drawn)
        yield self.table() if self.settings.show == "table" and step == self.settings.length else self.pictures()

    def pictures(self) -> Pictures:
        return self.album.event(self.facts())

    def facts(self) -> tuple[str, ...]:
        lines, limit = list(self.lines), self.asked.truth.threshold
        for i, goal in enumerate(self.goals):
            score = self.score[-1][i]
            what = "control, " if i >= self.targets else ""
            lines.append(f"{what}{goal.name}: “{self.history[-1][i][0]}” draws copies from {int((score > limit).sum())} of {len(score)} noises, "
                         f"SSIM {float(score.mean()):.2f}")
        return tuple(lines)

    def table(self) -> Table:
        rows = []
        for step, found in enumerate(self.history):
            for i, (text, loss) in enumerate(found):
                if not step or text != self.history[step - 1][i][0] or step == len(self.history) - 1:
                    rows.append((self.album.rows[i], float(step), text, None if loss != loss else loss))
        about = ("the picture that is searched for", "step of the search", "real tokens, to be typed",
                 "denoising loss of the picture at this step's noise, lower is better")
        return Table("Prompts on the way", ("goal", "step", "prompt", "loss"), about, tuple(rows), self.facts(), "not measured before the first step")
