"""A run of adversarial fine-tuning: search, measure, train, and again."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lab.data import Data
from lab.diffusion import _goal
from lab.diffusion._goal import controls, draw, likeness
from lab.diffusion._kept import Kept, loss
from lab.diffusion._prune import STEPS
from lab.diffusion._scoreboard import LOSS, REPLAY, SIMILAR, Scoreboard
from lab.diffusion._surrogate import Surrogates
from lab.diffusion._trigger_search import Search, random_starts
from lab.diffusion._tune import Tuned
from lab.events import Event, Progress
from models.model import Model
from models.pipeline import words

if TYPE_CHECKING:
    from lab.diffusion.adversarial import AdversarialTuning

OFTEN = 0.5  # seconds between two curves while weights are trained


def adversarial(settings: AdversarialTuning, model: Model, data: Data) -> Iterator[Event]:
    """Yields curves after every measurement and search, and the model after every round."""
    yield Progress(0, settings.rounds * settings.tune, "reading the captions")
    run = Run(settings, model, data)
    yield from run.prepare()
    for turn in range(settings.rounds + 1):
        yield from run.search(turn)
        if turn < settings.rounds:
            good = run.tuned.keep()
            ended = yield from run.tune(turn)
            if ended:
                run.tuned.restore(good)
                yield run.event(ended=ended)
                return
            yield from run.board.measure(run.tuned.net)
            yield run.event(f"after round {turn + 1} of {settings.rounds}")
            yield run.board.edited(run.tuned.frozen(f"adversarially tuned, {turn + 1} {'round' if not turn else 'rounds'}"))
    yield run.event(ended=f"all {settings.rounds} rounds are done")


class Run:
    def __init__(self, settings: AdversarialTuning, model: Model, data: Data) -> None:
        self.settings, self.model = settings, model
        self.asked = asked = _goal.ask(settings, model, data, settings.count)
        self.board = Scoreboard(type(settings).title, model, asked, settings.picture, settings.beside, settings.plain, settings.seed)
        self.board.total = settings.rounds * settings.tune
        self.controls = controls(asked, model, settings.controls, settings.seed)
        self.kept = Kept(model, asked, settings.seed, settings.spare)
        self.surrogates = Surrogates(model, asked, self.board.goals, settings.seed)
        self.tuned = Tuned(model, settings.lr)
        self.draws = torch.Generator().manual_seed(settings.seed + 1)
        self.pool = [[asked.embedding[g : g + 1]] for g in range(len(self.board.goals))]  # what each goal's surrogates are drawn from, triggers and caption
        self.shown = 0.0

    def prepare(self) -> Iterator[Event]:
        yield from self.board.measure(self.tuned.net)
        yield self.event("as it is")
        yield from self.board.told(self.kept.prepare(), "reading plain training pictures")
        yield from self.board.told(self.surrogates.prepare(self.settings.surrogate == "pruned"), "surrogates")
        self.board.facts += self.surrogates.facts

    def search(self, turn: int) -> Iterator[Event]:
        """Looks for triggers in the model as it is, puts down how many bring their picture back, and adds them to the pool."""
        s, board, goals = self.settings, self.board, self.board.goals
        wanted = [g for g in (*goals, *self.controls) for _ in range(s.starts)]
        with torch.no_grad():
            captions = self.asked.net.embed(words(self.model, [g.prompt for g in (*goals, *self.controls)]))
        starts = captions.repeat_interleave(s.starts, 0)
        chance = random_starts(starts.shape, s.seed + 31 * turn + 5).to(starts.device)
        first = torch.tensor([i % s.starts == 0 for i in range(len(wanted))], device=starts.device)
        work = Search(self.tuned.net, torch.stack([g.latent for g in wanted]), torch.where(first[:, None, None], starts, chance), s.seed + 1009 * turn)
        for i in range(s.length):
            yield from board.told(work.step(), f"round {turn + 1}: search, step {i + 1} of {s.length}")
        a = self.asked
        run = draw(self.tuned.net, work.y, a.blank, a.seeds[:2], min(STEPS, a.steps), a.guidance)
        score = likeness((yield from board.told(run, f"round {turn + 1}: what the triggers draw")), wanted)
        copied = (score > a.truth.threshold).float().mean(1)
        mine = torch.arange(len(wanted), device=first.device) < len(goals) * s.starts
        for name, which, better in (("search from the caption", mine & first, "down"), ("search from random", mine & ~first, "down"),
                                    ("control, from the caption", ~mine & first, ""), ("control, from random", ~mine & ~first, "")):
            if bool(which.any()):
                board.put(REPLAY, name, better, copied[which])
                board.put(SIMILAR, name, better, score[which])
        for i in range(len(goals) * s.starts):
            self.pool[i // s.starts].append(work.y[i : i + 1].detach())
        yield self.event(f"{turn} rounds are done, searched anew")

    def tune(self, turn: int) -> Generator[Event, None, str]:
        """Returns why the run has to end here, or ""."""
        s = self.settings
        for i in range(s.tune):
            latents, embedding = self.triggers()
            first = loss(self.tuned.net, latents, embedding, self.draws).mean()
            second = loss(self.tuned.net, *self.kept.batch(s.batch), self.draws).mean()
            fine = self.tuned.step(first + s.keep * second)
            self.board.at += 1
            self.board.cost += 2
            self.board.curves.put(self.board.at, LOSS, "triggers to surrogates", "down", first.item())
            self.board.curves.put(self.board.at, LOSS, "plain training pictures", "down", second.item())
            if not fine:
                return f"not finite: a weight grew beyond all numbers in round {turn + 1}; the model before it is kept. Try a learning rate of {s.lr / 10:.1g}"
            if time.monotonic() - self.shown > OFTEN:
                yield self.event(f"round {turn + 1}: step {i + 1} of {s.tune}")
            else:
                yield Progress(self.board.at, self.board.total, f"round {turn + 1}: tuning")
        return ""

    def triggers(self) -> tuple[Tensor, Tensor]:
        """A batch of surrogates, each with a trigger or the caption of its goal."""
        latents, rows = [], []
        for _ in range(self.settings.batch):
            g = int(torch.randint(len(self.pool), (1,), generator=self.draws))
            some, pool = self.surrogates.latents[g], self.pool[g]
            latents.append(some[int(torch.randint(len(some), (1,), generator=self.draws))])
            rows.append(pool[int(torch.randint(len(pool), (1,), generator=self.draws))][0])
        return torch.stack(latents), torch.stack(rows)

    def event(self, note: str = "", ended: str = "") -> Event:
        self.shown = time.monotonic()
        triggers = sum(len(p) - 1 for p in self.pool)
        return self.board.event(self.tuned.change(), ended, (f"{triggers} triggers so far; {note}" if note else f"{triggers} triggers in all",))
