"""Attribution patching: the whole map to first order, from the base pass and one pass backward.

Sources: Nanda 2023; Kramár et al. 2024, arXiv 2403.00745.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from lab.trace._replay import Replay
from lab.trace._score import Score

Gradients = dict[tuple[str, int], Tensor]  # (site, layer) -> (1 + runs, tokens, width): how fast the score of a run rises with what a site holds


def gradients(replay: Replay, log_probs: Tensor, score: Score) -> Gradients:
    """One pass backward through a base pass that was run with a graph; the graph is let go of."""
    keys = list(replay.taps.kept)
    with torch.enable_grad():
        total = score(log_probs).sum()
    found = torch.autograd.grad(total, [replay.taps.kept[key] for key in keys], allow_unused=True)
    replay.forget()
    replay.flops += 2 * replay.loop_flops(1, len(log_probs) - 1)
    return {key: grad for key, grad in zip(keys, found, strict=True) if grad is not None}


def estimates(replay: Replay, found: Gradients, site: str, token_count: int) -> Float[Tensor, "runs tokens layers"]:
    """First-order effect of restoring `site` at each token and layer in each corrupted run: <clean - corrupted, gradient>."""
    return torch.stack([_product(replay, found, site, layer) for layer in range(replay.layers)], -1)[:, :token_count]


def _product(replay: Replay, found: Gradients, site: str, layer: int) -> Float[Tensor, "runs tokens"]:
    if (site, layer) not in found:
        return torch.zeros(len(next(iter(found.values()))) - 1, replay.tokens, device=replay.ids.device)
    kept = replay.kept(site, layer).float()
    return ((kept[:1] - kept[1:]) * found[site, layer][1:].float()).sum(-1)


def windowed(each: Tensor, windows: Sequence[tuple[int, int]]) -> Tensor:
    """The sum over each window of layers. What a lower layer does through a higher one of the window counts twice: a quick look, no expansion."""
    return torch.stack([each[..., a:b].sum(-1) for a, b in windows], -1)


