"""How much of the attention goes to the other modality, layer by layer, and the loss that pulls it to a target.

Zheng et al. 2025, arXiv 2511.22663.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.organisms.interleave.recipe import GENERATION


def intensity(patterns: Sequence[Tensor], queries: Tensor, keys: Tensor) -> Tensor:
    """(layers,): share of attention, 0 to 1, from the query positions to the key positions: summed over keys, averaged over queries, heads and rows.

    `patterns`: for each layer (rows, heads, tokens, tokens), after the softmax; `queries` and `keys`: bool (rows, tokens). It carries gradients.
    """
    share = queries / queries.sum(1, keepdim=True)  # each row counts alike, however long its answer
    return torch.stack([torch.einsum("rqk,rq,rk->r", p.mean(1), share, keys.to(p.dtype)).mean() for p in patterns])


def aia_loss(found: Tensor, target: Tensor, delta: Tensor) -> Tensor:
    """Mean over layers of the Huber loss of `found` - `target`, each (layers,): quadratic within `delta` of the layer, linear beyond."""
    gap = (found - target).abs()
    return torch.where(gap <= delta, gap**2 / 2, delta * (gap - delta / 2)).mean()


def deltas(task: str, layers: int) -> Tensor:
    """(layers,): where the Huber loss turns linear. The published values for the 30 layers of Janus-Pro, scaled to `layers` by depth."""
    if task != GENERATION:
        return torch.full((layers,), 0.05)
    depth = [(layer + 0.5) / layers for layer in range(layers)]
    return torch.tensor([0.2 if d < 10 / 30 else 0.1 if d < 25 / 30 else 0.05 for d in depth])


def published(task: str, layers: int) -> Tensor:
    """(layers,): the targets for Janus-Pro, 0 to 1, scaled to `layers` by depth. They are its own: another net has other segments."""
    depth = [(layer + 0.5) / layers for layer in range(layers)]
    if task == GENERATION:
        return torch.tensor([0.4 if d < 25 / 30 else 0.2 for d in depth])
    return torch.tensor([(0.1, 0.15, 0.3, 0.2)[int(4 * d)] for d in depth])


def even(queries: Tensor, keys: Tensor) -> float:
    """The intensity of attention that is spread evenly over all tokens up to its own."""
    tokens = queries.shape[1]
    flat = torch.ones(tokens, tokens).tril()
    return float(intensity([(flat / flat.sum(1, keepdim=True)).expand(len(queries), 1, -1, -1)], queries, keys))


def open_patterns(net: nn.Module) -> None:
    """Makes `net` show its attention patterns, with gradients: fused attention has none to show."""
    net.set_attn_implementation("eager")  # type: ignore[operator]
