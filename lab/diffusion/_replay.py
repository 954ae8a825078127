"""Copies counted over groups of captions and guidances."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch

from lab.data import Data
from lab.diffusion._ask import asked
from lab.diffusion._gallery import gallery
from lab.diffusion._sample import batch, sample, start
from lab.diffusion._told import Caption, taken
from lab.diffusion._training import Truth, truth
from lab.events import Curves, Event, Grid, Progress
from models.errors import BadInput
from models.model import Model

if TYPE_CHECKING:
    from lab.diffusion.replay import Replay

MOST = 12  # guidances


def replay(settings: Replay, model: Model, data: Data) -> Iterator[Event]:
    """Yields the figure after every batch of pictures; a cell is NaN until its first picture is drawn."""
    yield Progress(0, 0, "choosing captions")
    known = truth(model, data)
    pictures = gallery(model, known)
    if pictures is None:
        raise BadInput(f"nobody knows what {model.name} was trained on", "only the lab's own organisms have a manifest", "Choose painter", setting="model")
    values, groups = guidances(settings.guidances), grouped(settings, known)
    prompts = [c.text for some in groups.values() for c in some]
    ask = asked(model, data, "\n".join(prompts), settings.seed, settings.seeds, 0.0, settings.steps, most=len(prompts))
    counted = Counted(settings, len(ask.seeds), ask.steps, groups, values, known.threshold)
    size, n = batch(ask.net, model.device), len(ask.seeds)
    every = [(k, s) for k in range(len(prompts)) for s in range(n)]
    noises = start(ask.net, ask.seeds, model.device)
    total, done = len(values) * len(every), 0
    for g, guidance in enumerate(values):
        for i in range(0, len(every), size):
            some = every[i : i + size]
            embedding, latents = ask.embedding[[k for k, _ in some]], noises[[s for _, s in some]]
            for step in sample(ask.net, embedding, ask.blank, latents, ask.steps, guidance):
                yield Progress(done, total, f"guidance {guidance:g}, step {step.done} of {step.total}")
            with torch.no_grad():
                near = pictures.nearest(ask.net.decode(step.latents))
            counted.add(g, some, near.ssim)
            done += len(some)
            yield counted.event()
    if settings.over == "both":
        yield counted.curves("copies")
        yield counted.grid()
    else:
        yield counted.grid()
        yield counted.curves(settings.over)


def guidances(text: str) -> tuple[float, ...]:
    """Numbers parted by commas, 0 to 30, each once. Raises `BadInput` naming what is none."""
    found = []
    for part in text.replace(";", ",").split(","):
        try:
            value = float(part)
        except ValueError:
            raise BadInput(f"{part.strip()!r} is no number", "guidances are parted by commas", "Write, for example, 1, 2, 4", setting="guidances") from None
        if not 0 <= value <= 30:  # NaN is not either
            raise BadInput(f"the guidance {part.strip()} is out of its bounds", "it takes 0 to 30", "Write, for example, 1, 2, 4", setting="guidances")
        found.append(value)
    if len(found) > MOST:
        raise BadInput(f"there are {len(found)} guidances", f"a run takes {MOST}", "Leave some out", setting="guidances")
    return tuple(dict.fromkeys(found))


def grouped(settings: Replay, known: Truth) -> dict[str, list[Caption]]:
    """The captions of every copy count, of pictures with many captions, and the three kinds that were not planted."""
    every: dict[str, list[tuple[Caption, str]]] = {}
    seen = set()
    for row in sorted(known.rows, key=lambda r: (("verbatim", "template", "regular", "held").index(r.kind), r.copies)):
        name = {"verbatim": f"{row.copies} copies", "template": "many captions"}.get(row.kind, "")
        for text in row.captions:
            if text not in seen:
                seen.add(text)
                kind = name or ("augmented, name" if text == row.name else "augmented, name and ground" if row.kind == "regular" else "never trained")
                every.setdefault(kind, []).append((Caption(text, "", row.copies, row.kind), row.name))
    draw = torch.Generator().manual_seed(settings.seed)
    return {kind: taken(some, settings.most, draw) for kind, some in every.items()}


class Counted:
    """Whether each picture so far is a copy."""

    def __init__(self, settings: Replay, seeds: int, steps: int, groups: dict[str, list[Caption]], values: tuple[float, ...], threshold: float) -> None:
        self.settings, self.groups, self.values, self.threshold = settings, groups, values, threshold
        ends = np.cumsum([0, *map(len, groups.values())])
        self.parts = [slice(a, b) for a, b in zip(ends, ends[1:], strict=False)]
        self.score = np.full((len(values), int(ends[-1]), seeds), np.nan)
        self.about = (f"a copy is above {threshold:g} in SSIM with a training picture", f"{seeds} noises a caption, {steps} steps")

    def add(self, guidance: int, some: list[tuple[int, int]], ssim: np.ndarray) -> None:
        for (k, s), value in zip(some, ssim, strict=True):
            self.score[guidance, k, s] = value

    def rates(self) -> tuple[np.ndarray, np.ndarray]:
        """(groups, guidances): share of copies, and its standard error over captions; NaN where there is none yet, or one caption only."""
        mean, error = (np.full((len(self.groups), len(self.values)), np.nan) for _ in range(2))
        for i, part in enumerate(self.parts):
            for j, score in enumerate(self.score[:, part]):
                drawn = score[~np.isnan(score).all(1)]
                rates = [float((row[~np.isnan(row)] > self.threshold).mean()) for row in drawn]
                if rates:
                    mean[i, j] = np.mean(rates)
                if len(rates) > 1:
                    error[i, j] = np.std(rates, ddof=1) / math.sqrt(len(rates))
        return mean, error

    @property
    def facts(self) -> tuple[str, ...]:
        means = [f"{k} {np.nanmean(s):.2f}" for k, part in zip(self.groups, self.parts, strict=True) if not np.isnan(s := self.score[:, part]).all()]
        return (*self.about, f"mean SSIM with the nearest, over guidances: {', '.join(means)}")

    def event(self) -> Event:
        return self.grid() if self.settings.over == "both" else self.curves(self.settings.over)

    def curves(self, over: str) -> Curves:
        mean, error = self.rates()
        names = tuple(f"{k} ({len(some)})" for k, some in self.groups.items())
        if over == "guidance":
            return Curves("Copies over guidance", names, np.array(self.values), "guidance", mean, error, "share of copies", self.settings.direction, self.facts)
        planted = [i for i, some in enumerate(self.groups.values()) if some[0].kind == "verbatim" and some[0].copies]
        others = tuple(f"{names[i]}: {', '.join(f'{v:.2f}' for v in mean[i])} at guidance {', '.join(f'{g:g}' for g in self.values)}"
                       for i in range(len(names)) if i not in planted and not np.isnan(mean[i]).all())
        x = np.log2([float(list(self.groups.values())[i][0].copies) for i in planted] or [])
        return Curves("Copies over how often a picture was planted", tuple(f"guidance {g:g}" for g in self.values), x, "log2 of copies", mean[planted].T,
                      error[planted].T, "share of copies", self.settings.direction, (*self.facts, *others))

    def grid(self) -> Grid:
        mean, error = self.rates()
        names = tuple(f"{k} ({len(some)} captions)" for k, some in self.groups.items())
        return Grid("Copies over captions and guidance", names, tuple(f"{g:g}" for g in self.values), "captions", "guidance", mean, error, "share of copies",
                    self.settings.direction, self.facts)
