"""How alike heads are, in which order they are grouped, and the head that stands for a group. Plain tensors, no model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

Groups = list[list[int]]
PRIOR = 1e-3  # weight of the matrices themselves beside their outputs, so that what the texts do not show is decided too


def cosine(moments: Float[Tensor, "heads size heads size"]) -> Float[np.ndarray, "heads heads"]:
    """sum(Y_i * Y_j) / (|Y_i| |Y_j|) of the heads' outputs, or weights, -1 to 1; `moments` holds Y_i' Y_j."""
    inner = torch.einsum("icjc->ij", moments)
    norm = inner.diagonal().clamp(min=1e-30).sqrt()
    return (inner / norm / norm[:, None]).cpu().numpy()


def cka(moments: Float[Tensor, "heads size heads size"]) -> Float[np.ndarray, "heads heads"]:
    """|Y_i' Y_j|^2 / (|Y_i' Y_i| |Y_j' Y_j|) in Frobenius norms, 0 to 1: linear CKA where the Y are centred (Kornblith et al. 2019, arXiv 1905.00414)."""
    square = moments.square().sum((1, 3))
    norm = square.diagonal().clamp(min=1e-30).sqrt()
    return (square / norm / norm[:, None]).cpu().numpy()


def merges(alike: Float[np.ndarray, "heads heads"]) -> list[tuple[float, int, int]]:
    """Average linkage: (mean similarity of the two groups, the first head of each), the most alike first, until one group is left."""
    groups: dict[int, list[int]] = {i: [i] for i in range(len(alike))}
    found = []
    while len(groups) > 1:
        pairs = [(float(alike[np.ix_(groups[i], groups[j])].mean()), i, j) for i in groups for j in groups if i < j]
        best = max(pairs, key=lambda p: (p[0], -p[1], -p[2]))
        groups[best[1]] += groups.pop(best[2])
        found.append(best)
    return found


def grouped(heads: int, order: Sequence[tuple[float, int, int]], count: int) -> Groups:
    """The groups after the first `count` merges."""
    groups = {i: [i] for i in range(heads)}
    for _, i, j in order[:count]:
        groups[i] = sorted(groups[i] + groups.pop(j))
    return list(groups.values())


def budgets(orders: dict[int, list[tuple[float, int, int]]], kept: int, equal: bool) -> dict[int, int]:
    """Layer -> how many of its merges are made, so that `kept` heads a layer are left: in each, or on average, the most alike of all layers first."""
    if equal:
        return {layer: max(0, len(order) + 1 - kept) for layer, order in orders.items()}
    wanted = sum(max(0, len(order) + 1 - kept) for order in orders.values())
    ranked = sorted(((-m[0], i, layer) for layer, order in orders.items() for i, m in enumerate(order)))
    done = dict.fromkeys(orders, 0)
    for _, _, layer in ranked[:wanted]:
        done[layer] += 1
    return done


def shuffled(groups: Groups, generator: torch.Generator) -> Groups:
    """Groups of the same sizes, drawn at random."""
    heads = torch.randperm(sum(map(len, groups)), generator=generator).tolist()
    ends = np.cumsum([len(g) for g in groups]).tolist()
    return [sorted(heads[end - len(g) : end]) for g, end in zip(groups, ends, strict=True)]


def basis(moments: Float[Tensor, "heads size heads size"]) -> Float[Tensor, "heads size kept"]:
    """U of as many columns as one head has: of all such, the one for which U U' Y is nearest to the heads' outputs Y side by side, in least squares."""
    heads, size = moments.shape[:2]
    _, vectors = torch.linalg.eigh(moments.reshape(heads * size, heads * size))  # ascending
    return vectors[:, -size:].reshape(heads, size, size)
