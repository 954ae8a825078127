"""What heads of a known kind look at, and how much of a pattern goes there. Plain tensors, no model."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

PREVIOUS, DUPLICATE, INDUCTION, SINK, COPY = "previous token", "duplicate token", "induction", "sink", "copy"
SCORES = (PREVIOUS, DUPLICATE, INDUCTION, SINK, COPY)


def looked_for(kind: str, ids: Int[Tensor, "rows tokens"]) -> Float[Tensor, "rows queries keys"]:
    """D of a kind of head: 1 where it looks, 0 elsewhere.

    The three are those of TransformerLens's head detector: the sub-diagonal; every earlier place of the same token; the place after each of these.
    """
    rows, tokens = ids.shape
    if kind == PREVIOUS:
        return torch.ones(tokens - 1, device=ids.device).diag(-1).expand(rows, -1, -1)
    same = (ids[:, :, None] == ids[:, None, :]).float().tril(-1)
    if kind == DUPLICATE:
        return same
    after = torch.zeros_like(same)
    after[:, :, 1:] = same[:, :, :-1]
    return after.tril()


def score(pattern: Float[Tensor, "rows heads queries keys"], target: Float[Tensor, "rows queries keys"], queries: slice,
          keys: slice) -> Float[Tensor, "rows heads"]:
    """sum(A * D) / sum(A) over these queries and keys, 0 to 1: the share of a head's attention that goes where a head of the kind looks. NaN where A is 0."""
    mine = pattern[:, :, queries, keys]
    return (mine * target[:, None, queries, keys]).sum((-1, -2)) / mine.sum((-1, -2))


def sink(pattern: Float[Tensor, "rows heads queries keys"], queries: slice) -> Float[Tensor, "rows heads"]:
    """Mean over queries of A[q, 0], 0 to 1. The first query is left out: it can look nowhere else (Xiao et al. 2023, arXiv 2309.17453)."""
    return pattern[:, :, max(1, queries.start) : queries.stop, 0].mean(-1)


def copied(logits: Float[Tensor, "rows positions candidates"]) -> Float[Tensor, " rows"]:
    """Share of positions s at which candidate s is raised more than every other candidate, 0 to 1; by chance 1 / candidates, and 0 where nothing is raised."""
    own = logits.diagonal(dim1=-2, dim2=-1)
    others = logits.masked_fill(torch.eye(logits.shape[-1], dtype=torch.bool, device=logits.device), -torch.inf).amax(-1)
    return (own > others).float().mean(-1)
