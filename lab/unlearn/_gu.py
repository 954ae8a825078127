"""Geometric disentanglement (GU): of the step that an optimiser proposes, what would raise the retain loss is taken out.

The optimiser proposes D (new weights less old). Rows of A are retain gradients, the present one and some past, each of unit norm. To first order a
retain loss changes by a_i . D, so it rises where that is positive. The nearest step that raises none, in the norm of the optimiser's own metric
M = diag(sqrt(v) + eps), v being Adam's bias-corrected second moment, is

    D' = D - M^-1 A^T lam,   lam >= 0,   A D' <= 0,   lam_i (a_i . D') = 0,

a non-negative least-squares problem of as many unknowns as there are gradients: with the Gram matrix G = A M^-1 A^T and the rises r = A D,
lam minimises lam^T G lam / 2 - r^T lam. First order only: a large step can still raise a retain loss.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor, nn

RIDGE = 1e-10  # of the Gram matrix, in units of its trace: gradients of one direction stay solvable


class Untangled:
    """Corrects the steps of an AdamW optimiser. `history` is how many past retain gradients count beside the present one."""

    def __init__(self, history: int) -> None:
        self.history, self.past = history, list[list[Tensor]]()

    @torch.no_grad()
    def step(self, optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter], gradients: Sequence[Tensor | None]) -> dict[str, float]:
        """Lets the optimiser step, then corrects what it did. `gradients` are those of the retain loss before it.

        Returns how many retain losses the step would have raised, and the share of it that was taken out, |D' - D| / |D| in the norm of M, 0 to 1.
        """
        before = [p.detach().clone() for p in parameters]
        optimizer.step()
        # what no gradient ever reached, such as an expert that no token chose, has no second moment and was not stepped: it stays out of the geometry
        gradients = [g if optimizer.state.get(p) else None for p, g in zip(parameters, gradients, strict=True)]
        self.past = [*self.past[max(0, len(self.past) - self.history):], unit(parameters, gradients)] if self.history else [unit(parameters, gradients)]
        metric = [scale(optimizer, p) for p in parameters]
        update = [p.detach() - b for p, b in zip(parameters, before, strict=True)]
        corrected, violated, share = project(update, self.past, metric)
        if violated:
            for p, b, d in zip(parameters, before, corrected, strict=True):
                p.copy_(b + d)
        return {"violated constraints": float(violated), "share removed": share}


def unit(parameters: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> list[Tensor]:
    """The gradients as one direction of norm 1; zero where a parameter has none."""
    filled = [torch.zeros_like(p) if g is None else g.detach() for p, g in zip(parameters, gradients, strict=True)]
    norm = sum(float(g.square().sum()) for g in filled) ** 0.5
    return [g / norm for g in filled] if norm else filled


def scale(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> Tensor:
    """Adam's sqrt(v) + eps for a parameter: the inverse of how far it steps for a gradient of size one. 1 where the optimiser never stepped it."""
    group, state = optimizer.param_groups[0], optimizer.state.get(parameter)
    if not state:
        return torch.ones_like(parameter)
    correction = 1 - group["betas"][1] ** float(state["step"])
    return (state["exp_avg_sq"] / correction).sqrt() + group["eps"]


def project(update: list[Tensor], directions: Sequence[list[Tensor]], metric: list[Tensor]) -> tuple[list[Tensor], int, float]:
    """(D', how many of the `directions` D would go up, |D' - D| / |D|). D itself, to the bit, where it raises none."""
    rises = np.array([dot(a, update) for a in directions])
    violated = int((rises > 0).sum())
    if not violated:
        return update, 0, 0.0
    scaled = [[x / m for x, m in zip(a, metric, strict=True)] for a in directions]
    gram = np.zeros((len(directions), len(directions)))
    for i, a in enumerate(directions):
        for j, b in enumerate(scaled[: i + 1]):
            gram[i, j] = gram[j, i] = dot(a, b)
    lam = solve(gram, rises)
    taken = [sum((w * x for w, x in zip(lam.tolist(), parts, strict=True)), torch.zeros_like(d))
             for d, *parts in zip(update, *scaled, strict=True)]
    size = dot([d * m for d, m in zip(update, metric, strict=True)], update)
    share = (dot([t * m for t, m in zip(taken, metric, strict=True)], taken) / size) ** 0.5 if size else 0.0
    return [d - t for d, t in zip(update, taken, strict=True)], violated, share


def solve(gram: np.ndarray, rises: np.ndarray) -> np.ndarray:
    """(directions,): lam >= 0 that minimises lam^T G lam / 2 - r^T lam, by non-negative least squares on a root of G."""
    values, vectors = np.linalg.eigh(gram + RIDGE * max(np.trace(gram), 1e-300) * np.eye(len(gram)))
    root = np.sqrt(np.maximum(values, 0))[:, None] * vectors.T
    target = np.where(root.any(1), (vectors.T @ rises) / np.maximum(np.sqrt(np.maximum(values, 0)), 1e-300), 0.0)
    return nnls(root, target)[0]


def dot(one: Sequence[Tensor], two: Sequence[Tensor]) -> float:
    return sum(float(torch.dot(a.reshape(-1), b.reshape(-1))) for a, b in zip(one, two, strict=True))
