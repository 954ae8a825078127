"""A decoupled transformer whose self-condition can be recorded, and taken from elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from models.errors import BadInput
from models.model import Model
from models.pipeline import Pipeline

Way = Callable[[int, Tensor, Any, Tensor], Tensor | None]  # (step, latents, t, embedding) -> z, or None for its own


class Conditioned:
    """A private net; `way` says where the z of each step comes from. `read` counts how often the encoder ran, `steps` the decoder."""

    def __init__(self, model: Model) -> None:
        """Raises `BadInput` where the denoiser is not decoupled."""
        self.net: Pipeline = model.skeleton()  # type: ignore[assignment]
        denoiser: Any = self.net.denoiser
        if not callable(getattr(denoiser, "condition", None)) or not callable(getattr(denoiser, "velocity", None)):
            raise BadInput(f"the denoiser of {model.name} is one piece", "only a decoupled transformer reads its condition apart from drawing",
                           "Choose painter-ddt", setting="model")
        self.encode = denoiser.condition
        denoiser.condition = self._condition
        self.way: Way | None = None
        self.step, self.read = 0, 0
        self.kept: list[Tensor] = []  # the z of every step of the last run

    def begin(self, way: Way | None = None) -> None:
        """The next run starts; with no `way` every z is its own."""
        self.way, self.step, self.read, self.kept = way, 0, 0, []

    def own(self, latents: Tensor, t: Any, embedding: Tensor) -> Tensor:
        """What the encoder makes of these."""
        self.read += 1
        return self.encode(latents, t, embedding)

    def _condition(self, latents: Tensor, t: Any, embedding: Tensor) -> Tensor:
        z = self.way(self.step, latents, t, embedding) if self.way else None
        z = self.own(latents, t, embedding) if z is None else z
        self.kept.append(z)
        self.step += 1
        return z

    def cost(self) -> float:
        """Weights that were passed in the last run, over those of as many steps without sharing: below 1 where the encoder was spared."""
        denoiser: Any = self.net.denoiser
        shared = {id(p) for p in denoiser.time.parameters()}
        decoder = sum(p.numel() for part in (denoiser.decoder, denoiser.seen, denoiser.last, denoiser.out) for p in part.parameters() if id(p) not in shared)
        whole = sum(p.numel() for p in denoiser.parameters())
        return (self.read * (whole - decoder) + self.step * decoder) / (self.step * whole)


def recorded(kept: list[Tensor]) -> Way:
    """The z of another run, step by step."""
    return lambda step, latents, t, embedding: kept[step]


def frozen(work: Conditioned, after: int) -> Way:
    """Its own z for the first `after` steps, and that of the last of these from then on."""
    return lambda step, latents, t, embedding: work.kept[after - 1] if step >= after else None


def shared(work: Conditioned, every: int) -> Way:
    """Its own z at every `every`-th step, used until the next."""
    return lambda step, latents, t, embedding: None if step % every == 0 else work.kept[-1]


def told(work: Conditioned, other: Tensor, steps: range, guided: bool) -> Way:
    """Reads the embedding `other` (1, rows, width) in the place of the prompt's, at these steps. `guided`: half of a batch is without text, and stays."""
    def way(step: int, latents: Tensor, t: Any, embedding: Tensor) -> Tensor | None:
        if step not in steps:
            return None
        n = len(latents) // 2 if guided else len(latents)
        return work.own(latents, t, torch.cat([other.expand(n, -1, -1).to(embedding), embedding[n:]]))

    return way
