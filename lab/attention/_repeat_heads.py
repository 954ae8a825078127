"""Which heads look for what followed the last time, and which then say what they look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lab.attention._repeat_corpus import TOKENS


@dataclass(frozen=True)
class Heads:
    """`matching[l, h]` is the share of its attention that a head of layer l gives to tokens that followed earlier occurrences of the one it reads, 0 to 1,
    mean over queries and documents, `error` its standard error over documents, `chance` what even attention would give. `copying[l, h]` is the sum of the
    eigenvalues of its direct way from symbol read to symbol said, over the sum of their sizes, -1 to 1: near 1 it says what it looks at.
    """

    matching: Float[np.ndarray, "layers heads"]
    error: Float[np.ndarray, "layers heads"]
    chance: float
    copying: Float[np.ndarray, "layers heads"]


def heads(net: Any, docs: Tensor, periods: Tensor) -> Heads:
    """Of copy documents `docs` (docs, tokens) whose strings are `periods` long. Olsson et al. 2022, arXiv 2209.11895."""
    was = net.config._attn_implementation
    net.set_attn_implementation("eager")  # the fused kernels keep no pattern
    try:
        with torch.no_grad():
            patterns = torch.stack(net(input_ids=docs, output_attentions=True).attentions)  # (layers, docs, heads, queries, keys)
    finally:
        net.set_attn_implementation(was)
    wanted, queries = followers(docs), repeats(periods)
    per_query = (patterns * wanted[None, :, None]).sum(-1)  # (layers, docs, heads, queries)
    per_doc = (per_query * queries[None, :, None]).sum(-1) / queries.sum(-1)[None, :, None]
    even = (wanted.sum(-1) / torch.arange(1, TOKENS + 1) * queries).sum() / queries.sum()
    mean, error = per_doc.mean(1), per_doc.std(1) / len(docs) ** 0.5
    return Heads(mean.double().numpy(), error.double().numpy(), float(even), copying(net))


def followers(docs: Tensor) -> Float[Tensor, "docs queries keys"]:
    """1 where the key came right after an earlier occurrence of the query's symbol."""
    same = (docs[:, :, None] == docs[:, None, :-1]).float()  # [d, q, k]: the symbol at k is that at q
    shifted = torch.cat([torch.zeros_like(same[:, :, :1]), same], 2)  # [d, q, k]: the symbol before k is that at q
    return shifted.tril() * (1 - torch.eye(docs.shape[1]))  # earlier, and the query itself is no answer


def repeats(periods: Tensor) -> Float[Tensor, "docs queries"]:
    """1 at the tokens of the second copy and later, whose symbol has occurred before."""
    return (torch.arange(TOKENS) >= periods[:, None]).float()


def copying(net: Any) -> Float[np.ndarray, "layers heads"]:
    """From the symbol's embedding through the head's values and outputs to the logits, with the gains of the norms and without their scale and shift."""
    size, width = net.config.n_embd // net.config.n_head, net.config.n_embd
    centred = torch.eye(width, dtype=torch.double) - 1 / width  # a LayerNorm takes the mean away
    embedding, final = net.transformer.wte.weight.detach().double(), net.transformer.ln_f.weight.detach().double()
    said = (centred * final) @ embedding.T
    found = []
    for block in net.transformer.h:
        values = block.attn.c_attn.weight.detach().double()[:, 2 * width :]
        outputs = block.attn.c_proj.weight.detach().double()
        read = embedding @ (centred * block.ln_1.weight.detach().double())
        for first in range(0, width, size):
            here = slice(first, first + size)
            # the eigenvalues other than 0 of the symbols' matrix A B are those of the small matrix B A
            values_of = torch.linalg.eigvals((outputs[here] @ said) @ (read @ values[:, here]))
            found.append(float(values_of.real.sum() / values_of.abs().sum().clamp_min(1e-30)))
    return np.array(found).reshape(len(net.transformer.h), -1)
