"""Pictures of a run, frame by frame, each beside what it is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lab.diffusion._embedder import embedder
from lab.diffusion._goal import Goal, likeness
from lab.diffusion._similar import Gallery, bytes_of, floats
from lab.diffusion._training import Truth
from lab.events import Pictures

if TYPE_CHECKING:
    from models.model import Model

NEAR = "similarity to the picture beside it, SSIM, -1 to 1, higher: nearer to a copy"


class Album:
    """Rows of pictures, and a frame for every time that they were drawn again. What stands beside is the nearest training picture, or the row's own goal."""

    def __init__(self, title: str, rows: Sequence[str], columns: Sequence[str], names: tuple[str, str, str], known: Truth, model: Model,
                 goals: Sequence[Goal] = ()) -> None:
        self.title, self.rows, self.columns, self.names, self.known = title, tuple(rows), tuple(columns), names, known
        self.goals = tuple(goals)
        if goals:
            self.gallery, self.training = None, bytes_of(torch.stack([g.pixels for g in goals]))
        else:
            self.gallery = Gallery(floats(known.images, model.device), embedder(model), known.compared) if len(known.compared) else None
            self.training = known.images
        self.frames: list[str] = []
        self.images: list[np.ndarray] = []
        self.index: list[np.ndarray] = []
        self.score: list[np.ndarray] = []

    @torch.no_grad()
    def add(self, frame: str, drawn: Float[Tensor, "rows columns 3 H W"]) -> None:
        """One more frame."""
        flat = drawn.flatten(0, 1)
        self.frames.append(frame)
        self.images.append(bytes_of(flat))
        if self.gallery:
            near = self.gallery.nearest(flat)
            self.index.append(near.index)
            self.score.append(near.ssim)
        elif self.goals:
            self.index.append(np.repeat(np.arange(len(self.rows)), len(self.columns)))
            self.score.append(likeness(drawn, self.goals).flatten().double().cpu().numpy())
        else:
            self.index.append(np.full(len(flat), -1))
            self.score.append(np.full(len(flat), np.nan))

    def copied(self, frame: int = -1) -> np.ndarray:
        """(rows, columns): the number of the training picture that each is a copy of, -1 where it is of none."""
        found = np.where(self.score[frame] > self.known.threshold, self.index[frame], -1)
        return found.reshape(len(self.rows), len(self.columns))

    def name(self, index: int) -> str:
        return self.goals[index].name if self.goals else self.known.name(index)

    def event(self, facts: tuple[str, ...] = (), show: int = -1) -> Pictures:
        """All frames so far."""
        index = np.concatenate(self.index)
        used = sorted(set(index.tolist()) - {-1})
        other = self.training[used] if used else np.zeros((0, 0, 0, 3), np.uint8)
        place = {i: n for n, i in enumerate(used)} | {-1: -1}
        return Pictures(self.title, tuple(self.frames), self.rows, self.columns, *self.names, np.concatenate(self.images), ("",) * len(index), other,
                        tuple(self.name(i) for i in used), tuple(place[i] for i in index.tolist()), np.concatenate(self.score), "SSIM",
                        self.known.threshold if used else float("nan"), NEAR, show % len(self.frames), facts)
