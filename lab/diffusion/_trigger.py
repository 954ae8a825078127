"""A run of the search: what is searched for, from where, and what came of it."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from lab.data import Data
from lab.diffusion import _goal
from lab.diffusion._ask import Asked
from lab.diffusion._goal import Goal, controls, draw, goals, likeness, plain
from lab.diffusion._prune import STEPS, Pruner
from lab.diffusion._trigger_search import Search, random_starts
from lab.events import Edited, Event, Progress
from lab.progress import retold
from models.errors import BadInput
from models.model import Model
from models.pipeline import Pipeline, pictures, words

if TYPE_CHECKING:
    from lab.diffusion.trigger import TriggerSearch

RANDOM, OTHER, CAPTION = "random", "other prompts", "caption"
PEEKS = 5  # looks at the pictures between the first step and the last
MOST = 128  # starts of a run


@dataclass(frozen=True, eq=False)
class Starts:
    """One row a start: which goal it is for, and where it begins. `embedding` (starts, rows, width)."""

    goals: tuple[Goal, ...]
    goal: tuple[int, ...]
    kinds: tuple[str, ...]
    words: tuple[str, ...]  # the other prompt that a start begins at, or ""
    embedding: Float[Tensor, "starts rows width"]

    @property
    def of(self) -> tuple[Goal, ...]:
        """The goal of every start."""
        return tuple(self.goals[g] for g in self.goal)

    def first(self, count: int) -> Starts:
        """The first `count` starts alone."""
        return Starts(self.goals, self.goal[:count], self.kinds[:count], self.words[:count], self.embedding[:count])

    @property
    def latents(self) -> Float[Tensor, "starts c h w"]:
        return torch.stack([g.latent for g in self.of])


def begin(asked: Asked, model: Model, wanted: tuple[Goal, ...], where: str, count: int, seed: int) -> Starts:
    """`count` starts for every goal. Raises `BadInput` where the model has no plain prompts to start from."""
    turns = (CAPTION, RANDOM, OTHER) if where == "all" else (where,)
    others = [p for p in plain(asked, model) if p not in {g.prompt for g in wanted}]
    chance = torch.Generator().manual_seed(seed)
    rows, which, kinds, told = [], [], [], []
    with torch.no_grad():
        known = asked.net.embed(words(model, others)) if others else asked.embedding[:0]
        captions = asked.net.embed(words(model, [g.prompt for g in wanted]))
    for g in range(len(wanted)):
        for i in range(count):
            kind = turns[i % len(turns)]
            other = int(torch.randint(len(others), (1,), generator=chance)) if kind == OTHER else 0
            rows.append(random_starts(captions.shape[1:], seed + 7919 * g + i).to(captions.device) if kind == RANDOM else
                        known[other] if kind == OTHER else captions[g])
            which.append(g)
            kinds.append(kind)
            told.append(others[other] if kind == OTHER else "")
    return Starts(wanted, tuple(which), tuple(kinds), tuple(told), torch.stack(rows))


@dataclass(frozen=True, eq=False)
class Look:
    """What the embeddings draw after `step` steps: `drawn` (starts, seeds, 3, H, W), `score` (starts, seeds) SSIM with the goals, losses (starts,)."""

    step: int
    drawn: Tensor
    score: Tensor
    loss: Tensor


def look(net: Pipeline, asked: Asked, starts: Starts, y: Tensor, step: int, loss: Tensor, steps: int) -> Generator[None, None, Look]:
    drawn = yield from draw(net, y, asked.blank, asked.seeds, steps, asked.guidance)
    return Look(step, drawn, likeness(drawn, starts.of), loss)


def search(settings: TriggerSearch, model: Model, data: Data) -> Iterator[Event]:
    """Yields a first picture at once, then looks on the way; the pruned model, where one was made; and the figure."""
    from lab.diffusion._trigger_shown import Shown

    yield Progress(0, 0, "reading the captions")
    asked = _goal.ask(settings, model, data, settings.count)
    wanted = goals(asked, model, settings.picture)
    beside = controls(asked, model, settings.controls, settings.seed)
    if (n := (len(wanted) + len(beside)) * settings.starts) > MOST:
        raise BadInput(f"{n} starts in all", f"a run takes {MOST}", "Take fewer starts or pictures", setting="starts")
    starts = begin(asked, model, (*wanted, *beside), settings.begin, settings.starts, settings.seed)
    shown = Shown(settings, model, asked, starts, len(wanted))
    yield Progress(0, settings.length, "a first picture")
    yield shown.first(starts.embedding)
    net: Pipeline = pictures(model)
    if settings.prune != "none":
        pruned = yield from prune(settings, model, asked, wanted)
        net, shown.pruned = pruned.net, pruned  # type: ignore[assignment]
        yield Edited(0, pruned)
    work = Search(net, starts.latents, starts.embedding, settings.seed, lr=settings.lr, batch=settings.batch)
    stops = {round(settings.length * i / PEEKS) for i in range(1, PEEKS)} | {min(5, settings.length)}
    loss = torch.full((len(starts.goal),), torch.nan)
    shown.take((yield from told(look(net, asked, starts, work.y, 0, loss, min(STEPS, asked.steps)), settings, 0, "before the search")), work.y)
    yield shown.event()
    for i in range(1, settings.length + 1):
        loss = yield from told(work.step(), settings, i, f"step {i} of {settings.length}")
        if i in stops and i < settings.length:
            shown.take((yield from told(look(net, asked, starts, work.y, i, loss, min(STEPS, asked.steps)), settings, i, "looking")), work.y)
            yield shown.event()
    shown.take((yield from told(look(net, asked, starts, work.y, settings.length, loss, asked.steps), settings, settings.length, "drawing")), work.y)
    yield Progress(settings.length, settings.length, "comparing")
    yield shown.event()


def told(run: Generator[None, None, Any], settings: TriggerSearch, step: int, note: str) -> Generator[Event, None, Any]:
    return (yield from retold(run, lambda _: Progress(step, settings.length, note)))


def prune(settings: TriggerSearch, model: Model, asked: Asked, wanted: tuple[Goal, ...]) -> Generator[Event, None, Model]:
    """The model without what the captions of all goals need."""
    pruner = Pruner(model, asked, settings.prune, share=settings.share, seed=settings.seed, until=settings.until)
    for note in pruner.prepare():
        yield Progress(0, settings.length, f"pruning: {note}")
    sets = []
    for i, goal in enumerate(wanted):
        run = pruner.find(goal, asked.embedding[i : i + 1])
        sets.append((yield from retold(run, lambda note, name=goal.prompt: Progress(0, settings.length, f"pruning for {name}: {note}"))))  # type: ignore[misc]
    return pruner.without(sets, f"without the neurons of {len(wanted)} {'prompt' if len(wanted) == 1 else 'prompts'} ({settings.prune})")
