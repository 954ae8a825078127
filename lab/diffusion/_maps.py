"""Maps of all tokens, gathered while one picture is drawn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from lab.data import Data
from lab.diffusion._ask import Asked, one_prompt
from lab.diffusion._attention import Reader, upsampled
from lab.diffusion._sample import sample, start
from lab.diffusion._similar import bytes_of, sized
from lab.events import Curves, Event, Pictures, Progress
from models.model import Model
from models.pipeline import shortened, tokens

if TYPE_CHECKING:
    from lab.diffusion.maps import WordMaps

SIDE = 64  # pixels of a map at most
KEPT = 24  # steps that are kept at most, spread evenly
HEAT = np.array([[0, 0, 30], [90, 20, 110], [200, 60, 70], [250, 150, 30], [250, 250, 170]]) / 255  # dark to bright
COLD = 0.35  # how much of the picture shows through where a map is brightest, at most 1


def maps(settings: WordMaps, model: Model, data: Data) -> Iterator[Event]:
    """Yields the maps and the shares after every step, and last what was chosen."""
    yield Progress(0, 0, "reading the prompt")
    reader, ask = Reader(model), one_prompt(model, data, settings.prompt, settings.seed, 1, settings.guidance, settings.steps)
    names = tokens(model, ask.prompts[0])
    found = Maps(settings, ask, names, min(SIDE, ask.net.pixels[0]), min(SIDE, ask.net.pixels[1]))
    latents = start(ask.net, ask.seeds, model.device)
    for step in sample(reader.net, ask.embedding, ask.blank, latents, ask.steps, ask.guidance):
        yield Progress(step.done, step.total, f"step {step.done} of {step.total}")
        with torch.no_grad():
            picture = ask.net.decode(step.latents if step.done == step.total else step.clean)
        found.add(step.done, reader.maps(1, len(names)), picture)
        if settings.show == "maps":
            yield found.pictures()
        else:
            yield found.shares()
    first, last = found.pictures(), found.shares()
    yield from (last, first) if settings.show == "maps" else (first, last)


class Maps:
    """The maps so far: of kept steps one by one, of all steps their sum."""

    def __init__(self, settings: WordMaps, ask: Asked, names: tuple[str, ...], high: int, wide: int) -> None:
        self.settings, self.ask, self.names, self.size = settings, ask, names, (high, wide)
        self.rows: tuple[str, ...] = ()
        self.sum: Tensor | None = None
        self.kept: list[tuple[str, Tensor, np.ndarray]] = []
        self.share: list[np.ndarray] = []
        self.every = max(1, -(-ask.steps // KEPT))
        self.picture: np.ndarray | None = None

    def add(self, done: int, layers: dict[str, Tensor], picture: Tensor) -> None:
        """`layers`: name -> (1, tokens, h, w); `picture`: (1, 3, H, W)."""
        each = upsampled(layers, self.size, coarsest=True)
        mean = torch.stack(list(upsampled(layers, self.size, coarsest=self.settings.coarsest).values())).mean(0)
        stack = torch.cat([mean, *(each.values() if self.settings.layers == "each" else ())]).cpu()  # rows x tokens x h x w
        self.rows = ("mean over layers", *(each if self.settings.layers == "each" else ()))
        self.sum = stack if self.sum is None else self.sum + stack
        self.share.append(mean[0].mean((1, 2)).cpu().double().numpy())
        self.picture = bytes_of(sized(picture, self.size))[0]
        if done % self.every == 0 or done == self.ask.steps:
            self.kept.append((f"step {done}", stack, self.picture))

    def pictures(self) -> Pictures:
        """The mean over steps first, then every kept step; in each row the picture itself comes first."""
        assert self.sum is not None and self.picture is not None
        frames = [("all steps", self.sum / len(self.share), self.picture), *self.kept]
        images, scores = [], []
        for _, stack, picture in frames:
            for row in stack:
                images += [picture, *(laid(picture, m.numpy()) for m in row)]
                scores += [float("nan"), *(float(m.mean()) for m in row)]
        none = (-1,) * len(images)
        return Pictures(f"{shortened(self.ask.prompts[0], 60)}: what is read where", tuple(f[0] for f in frames), self.rows, ("picture", *self.names), "step",
                        "layer", "token", np.stack(images), ("",) * len(images), np.zeros((0, 0, 0, 3), np.uint8), (), none, np.array(scores),
                        "share of attention", float("nan"), self.settings.direction, 0, self.ask.facts)

    def shares(self) -> Curves:
        value = np.stack(self.share, 1)
        return Curves(f"{shortened(self.ask.prompts[0], 60)}: attention of every token", tuple(f"{i + 1} {n}" for i, n in enumerate(self.names)),
                      np.arange(1, len(self.share) + 1, dtype=float), "step", value, np.full_like(value, np.nan), "share of attention",
                      self.settings.direction, self.ask.facts)


def laid(picture: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """A map over its picture: the picture in grey, dark where nothing is read, in warm colours where the map is high."""
    level = heat / max(heat.max(), 1e-12)
    grey = picture.mean(-1, keepdims=True) / 255
    place = level * (len(HEAT) - 1)
    low = np.minimum(place.astype(int), len(HEAT) - 2)
    colour = HEAT[low] + (HEAT[low + 1] - HEAT[low]) * (place - low)[..., None]
    return ((COLD * grey + (1 - COLD) * colour) * 255).round().clip(0, 255).astype(np.uint8)
