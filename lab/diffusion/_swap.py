"""A run that draws memorized prompts with conditions from elsewhere."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from lab.data import Data
from lab.diffusion import _goal
from lab.diffusion._album import Album
from lab.diffusion._goal import goals, likeness
from lab.diffusion._sample import sample, start
from lab.diffusion._swap_z import Conditioned, Way, frozen, recorded, shared, told
from lab.events import Event, Progress, Table
from models.errors import BadInput
from models.model import Model
from models.pipeline import words

if TYPE_CHECKING:
    from lab.diffusion.swap import Swap

FAR = 10_000  # to the noises that another z is made beside
SHARED = (2, 4)  # steps that share a z


def swap(settings: Swap, model: Model, data: Data) -> Iterator[Event]:
    """Yields the pictures after every way, and the figure."""
    yield Progress(0, 0, "reading the prompts")
    run = Run(settings, model, data)
    for i in range(len(run.asked.prompts)):
        yield from run.prompt(i)
    yield run.table() if settings.show == "table" else run.pictures()


class Run:
    def __init__(self, settings: Swap, model: Model, data: Data) -> None:
        self.settings, self.model, self.work = settings, model, Conditioned(model)
        self.asked = a = _goal.ask(settings, model, data, settings.count)
        self.goals = goals(a, model)
        plain = [p for p in (settings.other.strip(), *_goal.plain(a, model)) if p and p not in a.prompts]
        if not plain:
            raise BadInput("there is no other prompt", "all plain prompts are asked for already", "Write one", setting="other")
        self.other = plain[0]
        with torch.no_grad():
            self.embedding = a.net.embed(words(model, [self.other], "other"))
        self.here = start(a.net, a.seeds, model.device)
        self.there = start(a.net, [s + FAR for s in a.seeds], model.device)
        self.drawn: list[dict[str, Tensor]] = []
        self.cost: list[dict[str, float]] = []

    def draw(self, embedding: Tensor, latents: Tensor, note: str, way: Way | None = None) -> Generator[Event, None, Tensor]:
        a = self.asked
        self.work.begin(way)
        last = None
        for step in sample(self.work.net, embedding, a.blank, latents, a.steps, a.guidance):
            yield Progress(len(self.drawn), len(a.prompts), f"{note}, step {step.done} of {step.total}")
            last = step
        assert last is not None
        with torch.no_grad():
            return self.work.net.decode(last.latents)

    def prompt(self, i: int) -> Iterator[Event]:
        """Draws one prompt in every way."""
        a, work, name = self.asked, self.work, self.asked.prompts[i]
        mine, half = a.embedding[i : i + 1], a.steps // 2
        guided = a.guidance != 1
        found, cost = dict[str, Tensor](), dict[str, float]()
        self.drawn.append(found)
        self.cost.append(cost)

        def put(label: str, drawn: Tensor) -> None:
            found[label], cost[label] = drawn, work.cost()

        put("its own z", (yield from self.draw(mine, self.here, f"{name}, its own z")))
        yield self.pictures()
        yield from self.draw(mine, self.there, f"{name} from another noise")
        elsewhere = work.kept
        put("its z beside another noise", (yield from self.draw(mine, self.here, f"{name}, z of another noise", recorded(elsewhere))))
        beside: list[Tensor] = []

        def listen(step: int, latents: Tensor, t: object, embedding: Tensor) -> None:
            beside.append(told(work, mine, range(a.steps), guided)(step, latents, t, embedding))  # type: ignore[arg-type]

        yield from self.draw(self.embedding, self.here, f"{self.other}, read as {name}", listen)
        put(f"its z beside the picture of {self.other}", (yield from self.draw(mine, self.here, f"{name}, z beside {self.other}", recorded(beside))))
        for after in sorted({1, max(1, a.steps // 4), max(1, half)}):
            put(f"z of step {after} from then on", (yield from self.draw(mine, self.here, f"{name}, z frozen", frozen(work, after))))
        put(f"its z, then that of {self.other}", (yield from self.draw(mine, self.here, name, told(work, self.embedding, range(half, a.steps), guided))))
        put(f"z of {self.other}, then its own", (yield from self.draw(mine, self.here, name, told(work, self.embedding, range(half), guided))))
        for every in SHARED:
            put(f"z shared by {every} steps", (yield from self.draw(mine, self.here, f"{name}, shared z", shared(work, every))))
        yield self.pictures()

    def ready(self) -> list[int]:
        """The prompts that were drawn in as many ways as the first."""
        return [i for i, d in enumerate(self.drawn) if len(d) == len(self.drawn[0])]

    def pictures(self) -> Event:
        """A frame a prompt, a row a way."""
        ways = list(self.drawn[0])
        album = Album("Drawn with a condition from elsewhere", ways, [f"seed {s}" for s in self.asked.seeds], ("prompt", "condition", "noise"),
                      self.asked.truth, self.model)
        for i in self.ready():
            album.add(self.asked.prompts[i], torch.stack([self.drawn[i][w] for w in ways]))
        return album.event(self.facts(), show=0)

    def measured(self) -> list[tuple[str, float, float, float]]:
        """Of every way: (name, share of copies of the prompt's own picture, SSIM with it, cost), means over the prompts."""
        rows = []
        for way in self.drawn[0]:
            score = torch.stack([likeness(self.drawn[i][way][None], self.goals[i : i + 1])[0] for i in self.ready()])
            rows.append((way, float((score > self.asked.truth.threshold).float().mean()), float(score.mean()),
                         float(np.mean([self.cost[i][way] for i in self.ready()]))))
        return rows

    def table(self) -> Table:
        about = ("where the condition of the decoder comes from", "share of noises whose picture is a copy of the prompt's own, 0 to 1",
                 "SSIM with it, -1 to 1, higher: nearer", "weights passed, over those of drawing without sharing, lower is faster")
        return Table("Copies with a condition from elsewhere", ("condition", "copies", "similarity", "cost"), about, tuple(self.measured()), self.facts())

    def facts(self) -> tuple[str, ...]:
        return (*self.asked.facts, *(f"{way}: {rate:.0%} copies, SSIM {near:.2f}, cost {cost:.2f}" for way, rate, near, cost in self.measured()))
