"""The diagonal of the Fisher information of a network at texts, and weights dampened by it. Foster et al. 2023, arXiv 2308.07707."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence

import torch
from torch import Tensor, nn

from lab.unlearn._formulas import logits, mean, nll
from lab.unlearn._sets import Batch


def fisher(net: nn.Module, parameters: Mapping[str, nn.Parameter], texts: Sequence[Batch]) -> Generator[int, None, dict[str, Tensor]]:
    """For each parameter the mean over texts of the squared gradient of the text's loss. Each batch holds one text: the square of a mean over several
    would depend on how they are batched. Yields how many texts are done."""
    total = {n: torch.zeros_like(p) for n, p in parameters.items()}
    for done, one in enumerate(texts, 1):
        found = torch.autograd.grad(mean(nll(logits(net, one), one), one), list(parameters.values()), allow_unused=True)
        for n, g in zip(total, found, strict=True):
            if g is not None:
                total[n] += g.square()
        yield done
    return {n: t / max(1, len(texts)) for n, t in total.items()}


def dampened(weights: Mapping[str, Tensor], forget: Mapping[str, Tensor], kept: Mapping[str, Tensor], alpha: float,
             strength: float) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(new weights, where they were dampened): where I_forget > alpha I_kept, a weight is multiplied by min(1, strength I_kept / I_forget)."""
    new, where = {}, {}
    for n, w in weights.items():
        where[n] = forget[n] > alpha * kept[n]
        factor = (strength * kept[n] / forget[n].clamp(min=torch.finfo(w.dtype).tiny)).clamp(max=1.0)
        new[n] = torch.where(where[n], w * factor, w)
    return new, where
