"""A run of many prompts and noises, and what each picture is near to after every step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from lab import png
from lab.data import Data
from lab.diffusion._ask import Asked, asked
from lab.diffusion._embedder import embedder
from lab.diffusion._gallery import gallery as known_pictures
from lab.diffusion._sample import batch, start, together
from lab.diffusion._similar import Gallery, Nearest, bytes_of, floats, sized
from lab.events import Event, Pictures, Progress
from models.errors import BadInput
from models.model import Model
from models.pipeline import shortened

if TYPE_CHECKING:
    from lab.diffusion.generate import Generate

MOST = 128  # pictures of one run
LARGE, FEW, MANY = 64, 4, 7  # steps of pictures larger than so many pixels that are kept, and of small ones, beside the first two
OWN = "your picture"


def generate(settings: Generate, model: Model, data: Data) -> Iterator[Event]:
    """Yields the pictures after every step."""
    yield Progress(0, 0, "reading the prompts")
    own = png.read(settings.picture) if settings.picture.strip() else None
    ask = asked(model, data, settings.prompts, settings.seed, settings.seeds, settings.guidance, settings.steps)
    if len(ask.prompts) * settings.seeds > MOST:
        raise BadInput(f"{len(ask.prompts)} prompts from {settings.seeds} noises are {len(ask.prompts) * settings.seeds} pictures", f"a run draws {MOST}",
                       "Take fewer noises", setting="seeds")
    shown = Shown(ask, gallery(ask, model, own), own is not None)
    n = len(ask.seeds)
    latents = start(ask.net, ask.seeds, model.device).repeat(len(ask.prompts), 1, 1, 1)
    parts = -(-len(latents) // batch(ask.net, latents.device))
    for i, step in enumerate(together(ask.net, ask.embedding.repeat_interleave(n, 0), ask.blank, latents, ask.steps, ask.guidance), 1):
        yield Progress(i, parts * ask.steps, f"step {(i - 1) // parts + 1} of {ask.steps}")
        if step is not None and shown.wanted(step.done):
            for _ in shown.take(step.done, step.latents if step.done == step.total else step.clean):
                yield Progress(i, parts * ask.steps, "decoding")
            yield shown.event()


def gallery(ask: Asked, model: Model, own: np.ndarray | None) -> Gallery | None:
    """What the pictures are compared with, None where there is nothing."""
    if own is not None:  # as large as the model's own pictures: a photograph would be compared pixel by pixel else
        return Gallery(sized(floats(own[None], model.device), ask.net.pixels), embedder(model))
    return known_pictures(model, ask.truth)


class Shown:
    """The pictures so far."""

    def __init__(self, ask: Asked, gallery: Gallery | None, own: bool) -> None:
        self.ask, self.gallery, self.own = ask, gallery, own
        self.frames: list[str] = []
        self.images: list[np.ndarray] = []
        self.near: list[Nearest] = []

    def wanted(self, done: int) -> bool:
        """Whether a step is kept: the first two, so that something shows at once, and some others evenly; a record of all would be large."""
        steps, small = self.ask.steps, max(self.ask.net.pixels) <= LARGE
        count = MANY if small else FEW
        return (small and done <= 2) or done in {round(steps * i / count) for i in range(1, count + 1)}

    def take(self, done: int, latents: Tensor) -> Iterator[None]:
        """Decodes the latents of a step, some at a time, and looks up what they are near to."""
        drawn = []
        for part in latents.split(max(1, batch(self.ask.net, latents.device))):
            with torch.no_grad():
                drawn.append(self.ask.net.decode(part))
            yield
        pixels = torch.cat(drawn)
        self.frames.append(f"step {done}")
        self.images.append(bytes_of(pixels))
        if self.gallery:
            with torch.no_grad():
                self.near.append(self.gallery.nearest(pixels))

    def event(self) -> Pictures:
        ask, found = self.ask, self.near
        every = sum(map(len, self.images))
        index = np.concatenate([f.index for f in found]) if found else np.full(every, -1)
        used = sorted(set(index.tolist()) - {-1})
        other = bytes_of(self.gallery.pictures[used]) if self.gallery and used else np.zeros((0, 0, 0, 3), np.uint8)
        names = tuple(OWN if self.own else ask.truth.name(i) for i in used)
        return Pictures(
            f"{len(ask.prompts)} {'prompt' if len(ask.prompts) == 1 else 'prompts'} from {len(ask.seeds)} noises", tuple(self.frames), ask.prompts,
            tuple(f"seed {s}" for s in ask.seeds), "step", "prompt", "noise", np.concatenate(self.images), self.labels(every), other, names,
            tuple(used.index(i) if i >= 0 else -1 for i in index.tolist()), np.concatenate([f.ssim for f in found]) if found else np.full(every, np.nan),
            "SSIM", ask.truth.threshold if found else float("nan"), "similarity, higher: nearer to a copy", len(self.frames) - 1, self.facts())

    def labels(self, every: int) -> tuple[str, ...]:
        """Under each picture the other two measures of the same pair."""
        if not self.near:
            return ("",) * every
        tiles, cosine = (np.concatenate([getattr(f, k) for f in self.near]) for k in ("tiled", "feature"))
        return tuple(f"tiles {a:.2f}" + ("" if np.isnan(b) else f" · embedder {b:.2f}") for a, b in zip(tiles, cosine, strict=True))

    def facts(self) -> tuple[str, ...]:
        """What came of each prompt, so far."""
        ask, lines = self.ask, list(self.ask.facts)
        if not self.near:
            return (*lines, "nobody knows what this model was trained on: there is nothing to compare with")
        last, n = self.near[-1], len(ask.seeds)
        for i, prompt in enumerate(ask.prompts):
            score, index = last.ssim[i * n : (i + 1) * n], last.index[i * n : (i + 1) * n]
            copied = score > ask.truth.threshold
            most = np.bincount(index[copied]).argmax() if copied.any() else -1
            what = "" if most < 0 else f", most often of {OWN if self.own else ask.truth.name(int(most))}"
            lines.append(f"{shortened(prompt)}: {int(copied.sum())} of {n} are copies{what}; mean SSIM {score.mean():.2f}")
        return tuple(lines)
