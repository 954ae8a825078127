"""Geometric disentanglement with every direction written out and taken by itself, and the fast one called in the same way."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lab.unlearn._gu import dot, project, solve

Projected = tuple[list[Tensor], int, float]  # D', how many directions D would go up, |D' - D| / |D|


def projected(update: list[Tensor], directions: Sequence[list[Tensor]], metric: list[Tensor]) -> Projected:
    """`directions` are each a list of a part a parameter."""
    rows = [torch.stack([part.reshape(-1) for part in parts]) for parts in zip(*directions, strict=True)]
    found = project(update, rows, metric.__getitem__)
    taken = list(found.taken) or [torch.zeros_like(d) for d in update]
    return [d - t for d, t in zip(update, taken, strict=True)], found.violated, found.share


def slowly_projected(update: list[Tensor], directions: Sequence[list[Tensor]], metric: list[Tensor]) -> Projected:
    rises = np.array([dot(a, update) for a in directions])
    if not (rises > 0).any():
        return update, 0, 0.0
    scaled = [[x / m for x, m in zip(a, metric, strict=True)] for a in directions]
    lam = solve(np.array([[dot(a, b) for b in scaled] for a in directions]), rises)
    taken = [sum((w * x for w, x in zip(lam.tolist(), parts, strict=True)), torch.zeros_like(d)) for d, *parts in zip(update, *scaled, strict=True)]
    share = (dot([t * m for t, m in zip(taken, metric, strict=True)], taken) / dot([d * m for d, m in zip(update, metric, strict=True)], update)) ** 0.5
    return [d - t for d, t in zip(update, taken, strict=True)], int((rises > 0).sum()), share


def unit(parameters: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> list[Tensor]:
    """The gradients as one direction of norm 1; zero where a parameter has none."""
    filled = [torch.zeros_like(p) if g is None else g.detach() for p, g in zip(parameters, gradients, strict=True)]
    norm = sum(float(g.square().sum()) for g in filled) ** 0.5
    return [g / norm for g in filled] if norm else filled
