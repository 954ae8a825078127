"""Geometric disentanglement (GU): of the step that an optimiser proposes, what would raise the retain loss is taken out.

The optimiser proposes D (new weights less old). Rows of A are retain gradients, the present one and some past, each of unit norm. To first order a
retain loss changes by a_i . D, so it rises where that is positive. The nearest step that raises none, in the norm of the optimiser's own metric
M = diag(sqrt(v) + eps), v being Adam's bias-corrected second moment, is

    D' = D - M^-1 A^T lam,   lam >= 0,   A D' <= 0,   lam_i (a_i . D') = 0,

a non-negative least-squares problem of as many unknowns as there are gradients: with the Gram matrix G = A M^-1 A^T and the rises r = A D,
lam minimises lam^T G lam / 2 - r^T lam. First order only: a large step can still raise a retain loss.

What it costs is reading: the directions are as large as the network, each. They stand side by side, parameter by parameter, so that what is needed of
all of them is made of each part while it is in the cache, and the metric is made only where a step has to be corrected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor, nn

RIDGE = 1e-10  # of the Gram matrix, in units of its trace: gradients of one direction stay solvable


class Untangled:
    """Corrects the steps of an AdamW optimiser. `history` is how many past retain gradients count beside the present one."""

    def __init__(self, history: int) -> None:
        self.history, self.count = history, 0
        self.rows: list[Tensor] = []  # a parameter: (history + 1, elements); the newest gradient takes the place of the oldest

    @property
    def directions(self) -> list[Tensor]:
        """A parameter: (gradients that count, elements), in no order."""
        return [rows[: min(self.count, self.history + 1)] for rows in self.rows]

    @torch.no_grad()
    def step(self, optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor | None]) -> dict[str, float]:
        """Lets the optimiser step, then corrects what it did. `gradients` are those of the retain loss before it.

        Returns how many retain losses the step would have raised, and the share of it that was taken out, |D' - D| / |D| in the norm of M, 0 to 1.
        """
        before = [p.detach().clone() for p in parameters]
        optimizer.step()
        # what no gradient ever reached, such as an expert that no token chose, has no second moment and was not stepped: it stays out of the geometry
        self.add(parameters, [g if optimizer.state.get(p) else None for p, g in zip(parameters, gradients, strict=True)])
        update = [torch.sub(p.detach(), b, out=b) for p, b in zip(parameters, before, strict=True)]
        found = project(update, self.directions, lambda i: scale(optimizer, parameters[i]))
        for p, t in zip(parameters, found.taken, strict=False):  # nothing at all, where nothing is taken
            p.sub_(t)
        return {"violated constraints": float(found.violated), "share removed": found.share}

    def add(self, parameters: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> None:
        """Takes the gradients in as one direction of norm 1; zero where a parameter has none."""
        self.rows = self.rows or [p.new_zeros(self.history + 1, p.numel()) for p in parameters]
        norm = sum(float(dot([g], [g])) for g in gradients if g is not None) ** 0.5
        for rows, g in zip(self.rows, gradients, strict=True):
            row = rows[self.count % (self.history + 1)]
            row.zero_() if g is None or not norm else torch.div(g.reshape(-1), norm, out=row)
        self.count += 1


def scale(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> Tensor:
    """Adam's sqrt(v) + eps for a parameter: the inverse of how far it steps for a gradient of size one. 1 where the optimiser never stepped it."""
    group, state = optimizer.param_groups[0], optimizer.state.get(parameter)
    if not state:
        return torch.ones_like(parameter)
    correction = 1 - group["betas"][1] ** float(state["step"])
    return (state["exp_avg_sq"] / correction).sqrt_().add_(group["eps"])


@dataclass(frozen=True)
class Found:
    """`taken` is D - D', a parameter each, made as it is asked for; empty where D raises no retain loss. `violated`: how many D would raise.
    `share`: |D' - D| / |D| in the norm of M, 0 to 1."""

    taken: Iterable[Tensor]
    violated: int
    share: float


def project(update: Sequence[Tensor], directions: Sequence[Tensor], metric: Callable[[int], Tensor]) -> Found:
    """`directions` holds (directions, elements) of each parameter of `update`, `metric(i)` gives M of parameter i, in its shape."""
    rises = total([a @ d.reshape(-1) for a, d in zip(directions, update, strict=True)])
    violated = int((rises > 0).sum())
    if not violated:
        return Found((), 0, 0.0)
    grams, sizes = [], []
    for i, (a, d) in enumerate(zip(directions, update, strict=True)):
        m = metric(i).reshape(-1)
        sizes.append(torch.dot(d.reshape(-1) * m, d.reshape(-1)))
        grams.append((a * m.reciprocal()) @ a.T)
    gram, size = total(grams), float(total(sizes))
    gram = (gram + gram.T) / 2
    lam = solve(gram, rises)
    used = [(j, weight) for j, weight in enumerate(lam.tolist()) if weight]

    def taken() -> Iterator[Tensor]:
        for i, (a, d) in enumerate(zip(directions, update, strict=True)):
            found = torch.zeros_like(a[0])
            for j, weight in used:
                found.add_(a[j], alpha=weight)
            yield found.div_(metric(i).reshape(-1)).view_as(d)

    # |M^-1 A^T lam| in the norm of M is the root of lam^T G lam: what is taken need not be read for it
    return Found(taken() if used else (), violated, float(lam @ gram @ lam / size) ** 0.5 if size else 0.0)


def total(parts: Sequence[Tensor]) -> np.ndarray:
    """Their sum, in double precision."""
    return torch.stack([part.double() for part in parts]).sum(0).cpu().numpy()


def solve(gram: np.ndarray, rises: np.ndarray) -> np.ndarray:
    """(directions,): lam >= 0 that minimises lam^T G lam / 2 - r^T lam, by non-negative least squares on a root of G."""
    values, vectors = np.linalg.eigh(gram + RIDGE * max(np.trace(gram), 1e-300) * np.eye(len(gram)))
    root = np.sqrt(np.maximum(values, 0))[:, None] * vectors.T
    target = np.where(root.any(1), (vectors.T @ rises) / np.maximum(np.sqrt(np.maximum(values, 0)), 1e-300), 0.0)
    return nnls(root, target)[0]


def dot(one: Sequence[Tensor], two: Sequence[Tensor]) -> float:
    return sum(float(torch.dot(a.reshape(-1), b.reshape(-1))) for a, b in zip(one, two, strict=True))
