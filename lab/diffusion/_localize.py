"""A run that finds neurons or weights for some prompts, prunes them, and compares pictures."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from lab.data import Data
from lab.diffusion import _goal
from lab.diffusion._album import Album
from lab.diffusion._goal import Goal, draw, goals, likeness, planted
from lab.diffusion._nemo import overlap
from lab.diffusion._prune import Pruner
from lab.events import Edited, Event, Grid, Progress, Table
from lab.progress import retold
from models.model import Model
from models.pipeline import Pipeline, words

if TYPE_CHECKING:
    from lab.diffusion.localize import Localize


def localize(settings: Localize, model: Model, data: Data) -> Iterator[Event]:
    """Yields pictures as they are, the figure after every prompt, and at last the figure with all; before it, the pruned model."""
    yield Progress(0, 0, "reading the prompts")
    run = Run(settings, model, data)
    yield from run.before()
    yield from run.search()
    yield from run.after()
    yield run.figure()


class Run:
    def __init__(self, settings: Localize, model: Model, data: Data) -> None:
        self.settings, self.model = settings, model
        self.asked = asked = _goal.ask(settings, model, data, settings.count)
        self.prompts = asked.prompts
        self.untouched, self.regular = others(asked, settings.beside)
        every = (*self.prompts, *self.untouched, *self.regular)
        self.embedding = asked.net.embed(words(model, every))
        self.pruner = Pruner(model, asked, settings.method, where=settings.where, noises=settings.noises, share=settings.share, others=settings.others,
                             seed=settings.seed, until=settings.until)
        self.album = Album("Before and after pruning", every, [f"seed {s}" for s in asked.seeds], ("model", "prompt", "noise"), asked.truth, model)
        self.sets: dict[tuple[str, int], dict[str, Tensor]] = {}  # (prompt, turn) -> what is pruned
        self.own: list[float] = []  # similarity of a prompt's pictures without its own set alone
        self.own_rate: list[float] = []

    def work(self, run: Generator[object, None, object], note: str, done: int = 0) -> Generator[Event, None, object]:
        """Runs it and says so between its parts."""
        return (yield from retold(run, lambda said: Progress(done, len(self.prompts), f"{note}: {said}" if isinstance(said, str) else note)))

    def drawn(self, net: Pipeline, embedding: Tensor, note: str, done: int = 0) -> Generator[Event, None, Tensor]:
        a = self.asked
        found = yield from self.work(draw(net, embedding, a.blank, a.seeds, a.steps, a.guidance), note, done)
        assert isinstance(found, Tensor)
        return found

    def before(self) -> Iterator[Event]:
        n = len(self.prompts)
        mine = yield from self.drawn(self.asked.net, self.embedding[:n], "drawing the prompts")
        quick = Album(self.album.title, self.prompts, self.album.columns, self.album.names, self.asked.truth, self.model)
        quick.add("as it is", mine)
        yield quick.event(self.asked.facts)
        first = torch.cat([mine, (yield from self.drawn(self.asked.net, self.embedding[n:], "drawing other captions"))])
        yield Progress(0, len(self.prompts), "what the pictures are near to")
        self.album.add("as it is", first)
        self.goals: tuple[Goal, ...] = goals(self.asked, self.model, self.settings.picture)
        self.first = first
        yield self.album.event(self.asked.facts)
        yield from self.work(self.pruner.prepare(), "plain prompts")

    def search(self) -> Iterator[Event]:
        turns = (0, 1) if self.settings.show == "overlap" else (0,)
        for i, prompt in enumerate(self.prompts):
            row = self.embedding[i : i + 1]
            for turn in turns:
                found = yield from self.work(self.pruner.find(self.goals[i], row, turn), prompt, i)
                assert isinstance(found, dict)
                self.sets[prompt, turn] = found
            alone = self.pruner.without([self.sets[prompt, 0]], "pruned")
            drawn = yield from self.drawn(alone.net, row, f"{prompt}: drawing without them", i)  # type: ignore[arg-type]
            close = likeness(drawn, self.goals[i : i + 1])
            self.own.append(float(close.mean()))
            self.own_rate.append(float((close > self.asked.truth.threshold).float().mean()))
            if self.settings.show in ("neurons", "overlap"):
                yield self.figure()

    def after(self) -> Iterator[Event]:
        via = f"without the neurons of {len(self.prompts)} {'prompt' if len(self.prompts) == 1 else 'prompts'} ({self.settings.method})"
        self.pruned = self.pruner.without([self.sets[p, 0] for p in self.prompts], via)
        net: Pipeline = self.pruned.net  # type: ignore[assignment]
        self.last = yield from self.drawn(net, self.embedding, "drawing without all of them", len(self.prompts))
        self.album.add("pruned", self.last)
        yield self.album.event(self.facts())
        yield Edited(1, self.pruned)

    # ---- figures

    def figure(self) -> Event:
        show = self.settings.show
        if show == "neurons":
            return self.neurons()
        if show == "overlap":
            return self.overlaps()
        return self.table() if show == "table" else self.album.event(self.facts())

    def neurons(self) -> Grid:
        done = [p for p in self.prompts if (p, 0) in self.sets]
        layers = [self.pruner.layers(self.sets[p, 0]) for p in done]
        columns = tuple(layers[0])
        value = np.array([[row[c] for c in columns] for row in layers])
        unit, what = ("% of the weights", "weights") if self.settings.method == "wanda" else ("neurons", "value neurons")
        return Grid(f"Which {what} are pruned", tuple(done), columns, "prompt", "layer", value, np.full(value.shape, np.nan), unit,
                    "higher: more of this layer has to go", self.facts())

    def overlaps(self) -> Grid:
        keys = [(p, t) for p in self.prompts for t in (0, 1) if (p, t) in self.sets]
        value = np.array([[overlap(self.sets[a], self.sets[b]) for b in keys] for a in keys])
        names = tuple(f"{p} · noises {'ab'[t]}" for p, t in keys)
        lines = list(self.facts())
        same = [value[i, j] for i, a in enumerate(keys) for j, b in enumerate(keys) if i < j and a[0] == b[0]]
        cross = [value[i, j] for i, a in enumerate(keys) for j, b in enumerate(keys) if i < j and a[0] != b[0]]
        for what, found in (("the same prompt, other noises", same), ("different prompts", cross)):
            if not np.isnan(found).all():
                lines.append(f"overlap, {what}: mean {np.nanmean(found):.2f} over {len(found)} pairs")
        return Grid("How much the pruned sets overlap", names, names, "set", "set", value, np.full(value.shape, np.nan), "intersection over union",
                    "0 to 1, higher: more the same", tuple(lines))

    def table(self) -> Table:
        before, after = self.album.copied(0), self.album.copied(-1)
        gap = (self.last - self.first).square().mean((2, 3, 4)).sqrt().mean(1).tolist()
        n, m = len(self.prompts), len(self.untouched)
        mine = self.mine()
        rows = []
        for i, prompt in enumerate(self.album.rows):
            group = "pruned" if i < n else "other memory" if i < n + m else "plain caption"
            other = sorted({self.album.name(j) for j in after[i].tolist() if j >= 0 and j not in before[i]})
            known = bool(self.asked.truth.compared)
            first, last = (mine[0][i], mine[1][i]) if i < n else (float((a[i] >= 0).mean()) if known else None for a in (before, after))
            rows.append((prompt, group, first, self.own_rate[i] if i < n else None, last, self.own[i] if i < n else None, gap[i], "; ".join(other) or None))
        return Table("What pruning does to prompts, to other memories and to plain captions",
                     ("prompt", "group", "copies before", "without its own", "without all", "similarity without its own", "change", "another picture"),
                     ("", "whether its neurons are pruned", "share of noises that copy its picture, 0 to 1; of other captions, any training picture",
                      "share of copies of its own picture when its own set alone is pruned, lower is better",
                      "share of copies when the sets of all prompts are", "SSIM with its picture, lower is better",
                      "root of the mean squared change of the picture, 0 to 1",
                      "training pictures that it copies now and did not before"), tuple(rows), self.facts(),
                     "not pruned for itself, or no other picture appeared")

    def mine(self) -> tuple[list[float], list[float]]:
        """Of every prompt the share of noises that copy its own picture, before and without all sets."""
        n, limit = len(self.prompts), self.asked.truth.threshold
        first, last = ((likeness(d[:n], self.goals) > limit).float().mean(1).tolist() for d in (self.first, self.last))
        return first, last

    def facts(self) -> tuple[str, ...]:
        lines = [*self.asked.facts, *self.pruner.facts()]
        if hasattr(self, "last"):
            lines += self.told()
        return tuple(lines)

    def told(self) -> list[str]:
        """How often what was copied, before and after."""
        before, after = self.album.copied(0), self.album.copied(-1)
        n, m = len(self.prompts), len(self.untouched)
        mine = self.mine()
        lines = [f"each prompt without its own set: {np.mean(self.own_rate):.0%} of noises copy its picture, SSIM {np.mean(self.own):.2f}"]
        lines.append(f"pruned prompts: {np.mean(mine[0]):.0%} copies of their pictures before, {np.mean(mine[1]):.0%} without all sets")
        for what, part in (("other memories", slice(n, n + m)), ("plain captions", slice(n + m, None))):
            if len(before[part]) and self.asked.truth.compared:
                lines.append(f"{what}: {(before[part] >= 0).mean():.0%} copies before, {(after[part] >= 0).mean():.0%} without all sets")
        new = [(self.album.rows[i], self.album.name(j)) for i in range(n) for j in sorted(set(after[i].tolist())) if j >= 0 and j not in before[i]]
        lines += [f"{prompt} now brings back another picture: {name}" for prompt, name in new]
        return lines


def others(asked: _goal.Asked, most: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Captions of other memorized pictures, the most copied first, and plain captions; neither is among the prompts."""
    mine = {asked.truth.row(p) for p in asked.prompts}
    rows = sorted((r for r in planted(asked.truth) if r not in mine), key=lambda r: -r.copies)
    held = [r for r in asked.truth.of("held", "regular") if r.captions and r not in mine]
    gap = max(1, len(held) // most)
    regular = tuple(dict.fromkeys(r.captions[0] for r in held[::gap]))[:most] or tuple(p for p in _goal.PLAIN if p not in asked.prompts)[:most]
    return tuple(dict.fromkeys(r.captions[0] for r in rows))[:most], regular


