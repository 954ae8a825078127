"""What is made of a pattern, on plain tensors: masked, weighted by values, rolled out, by segment, by part, and how a head uses it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

LEFT = 1e-6  # of a row's weight: less than this beside the first token says nothing about where else a head looks


def without_first(pattern: Float[Tensor, "*heads queries keys"]) -> Float[Tensor, "*heads queries keys"]:
    """The shares of the other keys once the first is not counted: rows sum to one again. NaN in rows that read the first token alone."""
    rest = pattern.clone()
    rest[..., 0] = 0
    total = rest.sum(-1, keepdim=True)
    return torch.where(total > LEFT, rest / total, torch.nan)


def carried(value: Float[Tensor, "shared tokens size"], out: Float[Tensor, "inputs width"]) -> Float[Tensor, "heads tokens"]:
    """||v_j W_O|| of every query head: how long the vector is that it would add to a token that reads j alone. Source: arXiv 2004.10102, equation 4."""
    heads = out.shape[0] // value.shape[-1]
    groups = heads // value.shape[0]
    matrices = out.view(heads, value.shape[-1], -1)
    return torch.stack([(value[h // groups].float() @ matrices[h].float()).norm(dim=-1) for h in range(heads)])


def rolled(pattern: Float[Tensor, "queries keys"], before: Float[Tensor, "keys keys"] | None) -> Float[Tensor, "queries keys"]:
    """One more layer of attention rollout: R_l = rownorm(A_l / 2 + I / 2) R_(l-1), R before the first layer being I. Source: arXiv 2005.00928.

    A row of NaN, which reads nothing that is counted, keeps its own token.
    """
    own = torch.eye(len(pattern), dtype=pattern.dtype, device=pattern.device)
    mixed = torch.nan_to_num(pattern) / 2 + own / 2
    mixed = mixed / mixed.sum(-1, keepdim=True)
    return mixed if before is None else mixed @ before


def by_segment(pattern: Float[Tensor, "rows heads queries keys"], of: Int[Tensor, "rows tokens"], count: int) -> Float[Tensor, "rows heads segments segments"]:
    """I[a, b]: weight that the queries of segment a put on all keys of segment b, mean over these queries. NaN where a row has no token of a.

    `of` names the segment of every token; -1 is padding. Over all b it sums to one. Source: arXiv 2511.22663, whose mean over heads is left to the caller.
    """
    member = torch.nn.functional.one_hot(of + 1, count + 1)[..., 1:].to(pattern.dtype)
    mass = pattern @ member[:, None]
    size = member.sum(1)[:, None, :, None]
    return torch.where(size > 0, member.transpose(1, 2)[:, None] @ mass / size, torch.nan)


def entropy(pattern: Float[Tensor, "*heads queries keys"]) -> Float[Tensor, "*heads queries"]:
    """Nats: 0 where a query reads one key, log n where it reads n alike."""
    return torch.special.entr(pattern).sum(-1)


def after_first(of_query: Float[Tensor, "rows heads queries"], length: Int[Tensor, " rows"]) -> Float[Tensor, "rows heads"]:
    """Mean over the queries of each row from the second on: the first can read nothing but itself. NaN in a row of one token."""
    place = torch.arange(of_query.shape[-1], device=of_query.device)
    counted = ((place > 0) & (place < length[:, None]))[:, None]
    return torch.where(counted, of_query, 0).sum(-1) / counted.sum(-1)


def parts(tokens: int, most: int) -> tuple[tuple[int, int], ...]:
    """So many tokens as at most `most` parts of neighbours, all but the last of one length."""
    size = -(-tokens // most)
    return tuple((i, min(i + size, tokens)) for i in range(0, tokens, size))


def merged(weight: Float[np.ndarray, "queries keys"], pieces: Sequence[tuple[int, int]]) -> Float[np.ndarray, "parts parts"]:
    """Sum over the keys of a part, mean over those of its queries that are not NaN: where rows sum to one, so do the rows of this."""
    if all(b - a == 1 for a, b in pieces):
        return weight.copy()
    wide = np.add.reduceat(weight, [a for a, _ in pieces], axis=1)
    out = np.full((len(pieces), len(pieces)), np.nan)
    for i, (a, b) in enumerate(pieces):
        rows = wide[a:b][~np.isnan(wide[a:b]).any(1)]
        if len(rows):
            out[i] = rows.mean(0)
    return out
