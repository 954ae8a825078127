"""A run over prompts: scores batch by batch, and what they tell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from lab.data import Data
from lab.diffusion import _scores as scores
from lab.diffusion._ask import Asked, asked
from lab.diffusion._attention import Reader, upsampled
from lab.diffusion._embedder import embedder
from lab.diffusion._sample import Step, batch, sample, start
from lab.diffusion._told import Caption, Measure, captions, course, measures, shown
from lab.events import Event, Progress
from models.errors import BadInput
from models.model import Model
from models.pipeline import Pipeline, tokens

if TYPE_CHECKING:
    from lab.diffusion._similar import Embedder
    from lab.diffusion.detect import Detect


def detect(settings: Detect, model: Model, data: Data) -> Iterator[Event]:
    """Yields the table of prompts after every batch of them, and last all figures, the chosen one at the end."""
    yield Progress(0, 0, "choosing captions")
    if settings.show == "steps" and settings.measures != "all":
        raise BadInput("only the first step is read", "the scores of the first step alone were chosen", "Choose all scores, or another figure", setting="show")
    rows = captions(settings, model, data)
    ask = asked(model, data, "\n".join(r.text for r in rows), settings.seed, settings.seeds, settings.guidance, settings.steps, most=len(rows))
    work = Work(settings, model, ask)
    value = np.full((len(rows), len(work.measures)), np.nan)
    size = max(1, batch(ask.net, model.device) // settings.seeds)
    for first in range(0, len(rows), size):
        part = slice(first, min(first + size, len(rows)))
        for found in work.scored(part):
            if found is None:
                yield Progress(first, len(rows), "reading the first step" if settings.measures == "first step" else "drawing")
            else:
                value[part] = found
        yield Progress(part.stop, len(rows), "scoring")
        yield shown("prompts", settings, rows, work.measures, value, work.facts)
    if not labelled(rows):
        if settings.show == "steps":
            yield course(settings, rows, work.course, tuple(work.facts))
        return
    for which in [k for k in ("prompts", "copies", "roc", "auc") if k != settings.show]:
        yield shown(which, settings, rows, work.measures, value, work.facts)
    if settings.show == "steps":
        yield course(settings, rows, work.course, tuple(work.facts))
    else:
        yield shown(settings.show, settings, rows, work.measures, value, work.facts)


def labelled(rows: list[Caption]) -> bool:
    return any(r.label == "memorized" for r in rows) and any(r.label in ("plain", "specifying") for r in rows)


@dataclass
class Seen:
    """What is gathered of one batch: of every step, for (prompts, seeds) pictures."""

    added: list[Tensor] = field(default_factory=list)  # norms of what the text adds, a step each
    noises: list[tuple[Tensor, Tensor]] = field(default_factory=list)  # kept where the end mark's mask is still to come
    end: Tensor | None = None


class Work:
    """All that the scores of a batch of prompts take."""

    def __init__(self, settings: Detect, model: Model, ask: Asked) -> None:
        self.settings, self.model, self.ask = settings, model, ask
        self.all = settings.measures == "all"
        self.facts = [*ask.facts, f"{settings.seeds} noises a prompt"]
        self.embedder: Embedder | None = embedder(model) if self.all else None
        self.reader: Reader | None = None
        if self.all:
            try:
                self.reader = Reader(model)
            except BadInput as error:
                self.facts.append(f"no attention of the end mark: {error.fault}")
        self.net: Pipeline = self.reader.net if self.reader else ask.net
        self.measures: list[Measure] = measures(self.all, self.embedder is not None, self.reader is not None)
        self.course = np.full((len(ask.prompts), ask.steps), np.nan)  # the noise that the text adds, step by step
        self.ends = [len(tokens(model, p)) - 1 for p in ask.prompts]
        draw = torch.Generator().manual_seed(settings.seed)
        shape = (settings.probes, 1, *ask.net.latent_shape)
        self.probes = (torch.randint(0, 2, shape, generator=draw) * 2 - 1).float().to(model.device)  # the same for every prompt and noise

    def scored(self, part: slice) -> Iterator[np.ndarray | None]:
        """Yields None as it goes, then (prompts, measures)."""
        ask, n = self.ask, len(self.ask.seeds)
        count = part.stop - part.start
        latents = start(ask.net, ask.seeds, self.model.device).repeat(count, 1, 1, 1)
        embedding = ask.embedding[part].repeat_interleave(n, 0)
        seen = Seen()
        found: dict[str, np.ndarray] = {}
        for step in sample(self.net, embedding, ask.blank, latents, ask.steps, ask.guidance, both=True):
            assert step.without is not None
            if step.done == 1:
                for some in self.first(step, latents, embedding, count):
                    found |= some
                    yield None
            if not self.all:
                break
            self.keep(step, seen, part)
            yield None
            last = step
        if self.all:
            with torch.no_grad():
                found |= self.last(last, seen, count)
            self.course[part] = np.stack([over(v, count) for v in seen.added], 1)
        yield np.stack([found[m.name] for m in self.measures], 1)

    def first(self, step: Step, latents: Tensor, embedding: Tensor, count: int) -> Iterator[dict[str, np.ndarray]]:
        """The scores of the first step, (prompts,) each, some after every pass."""
        net, n = self.ask.net, len(latents)
        assert step.without is not None
        levels = net.levels(torch.as_tensor(step.t, device=latents.device))
        yield {"noise, first step": over(scores.magnitude(step.with_text, step.without), count), "first sight": np.array(
            [scores.first_sight(x, noise, *levels) for x, noise in zip(latents.chunk(count), step.with_text.chunk(count), strict=True)])}
        with torch.no_grad():
            blank, added = self.ask.blank.expand(n, -1, -1), step.with_text - step.without
            bent = scores.sharpness(net, latents, step.t, embedding, blank, added)
        yield {"sharpness": over(bent, count)}
        peaks = []
        for probe in self.probes:
            with torch.no_grad():
                peaks.append(scores.curvature(net, latents, step.t, embedding, probe[None].expand(-1, n, -1, -1, -1)))
            yield {"curvature": over(torch.stack(peaks).mean(0), count)}

    def keep(self, step: Step, seen: Seen, part: slice) -> None:
        assert step.without is not None
        seen.added.append(scores.magnitude(step.with_text, step.without))
        if self.reader is None:
            return
        seen.noises.append((step.with_text, step.without))
        if step.done == step.total:
            n, longest = len(step.latents), max(self.ends[part]) + 1
            size = self.ask.net.latent_shape[1:]
            mean = torch.stack(list(upsampled(self.reader.maps(n, longest), size, coarsest=True).values())).mean(0)
            place = torch.tensor(self.ends[part], device=mean.device).repeat_interleave(len(self.ask.seeds))
            seen.end = mean[torch.arange(n, device=mean.device), place]

    def last(self, step: Step, seen: Seen, count: int) -> dict[str, np.ndarray]:
        """The scores of the finished pictures, (prompts,) each."""
        found = {"noise, all steps": over(torch.stack(seen.added).mean(0), count)}
        pictures = self.ask.net.decode(step.latents)
        found["tiles"] = np.array([scores.tiles_apart(p) for p in pictures.chunk(count)])
        if self.embedder:
            found["embedder"] = np.array([scores.alike(f) for f in self.embedder(pictures).chunk(count)])
        if seen.end is not None:
            end = seen.end
            found["bright ending"] = over(torch.stack([scores.bright(a, b, end) for a, b in seen.noises]).mean(0), count)
            found["end attention"] = over(end.mean((1, 2)), count)
        return found


def over(value: Tensor, count: int) -> np.ndarray:
    """Mean over the noises of every prompt."""
    return value.unflatten(0, (count, -1)).mean(1).double().cpu().numpy()
