"""Networks that imitate a retriever: Memory Decoder, a small decoder beside the model, and MLP Memory, an MLP on its last state."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from models.memory.knn_lm import Neighbours


class MLPMemory(nn.Module):
    """State of the model -> logits: residual layers of an MLP, each x + W silu(V norm(x)), read out by a table that begins as the model's own.

    It sees no other token: all that it knows of the text came through the state. Wei et al. 2025, arXiv 2508.01832.
    """

    def __init__(self, table: Float[Tensor, "tokens dim"], inner: int, layers: int) -> None:
        super().__init__()
        dim = table.shape[1]
        self.layers = nn.ModuleList(nn.Sequential(nn.RMSNorm(dim, eps=1e-5), nn.Linear(dim, inner, bias=False), nn.SiLU(), nn.Linear(inner, dim, bias=False))
                                    for _ in range(layers))
        for layer in self.layers:
            nn.init.zeros_(layer[3].weight)  # type: ignore[index]
        self.table = nn.Parameter(table.detach().clone())

    def forward(self, states: Float[Tensor, "*batch dim"]) -> Float[Tensor, "*batch tokens"]:
        for layer in self.layers:
            states = states + layer(states)
        return states @ self.table.T


class MemoryDecoder(nn.Module):
    """Tokens -> logits: a small causal decoder of its own, with the model's tokenizer, that never sees the model. Its table begins as the model's.

    The paper begins with a small pretrained decoder; ours begins with the model's embedding and new layers. Cao et al. 2025, arXiv 2508.09874.
    """

    def __init__(self, table: Float[Tensor, "tokens dim"], layers: int, heads: int = 4, longest: int = 512) -> None:
        super().__init__()
        dim = table.shape[1]
        self.table, self.places = nn.Parameter(table.detach().clone()), nn.Parameter(torch.zeros(longest, dim))
        self.scale = float(table.detach().std())
        self.heads = heads if dim % heads == 0 else 1
        self.layers = nn.ModuleList(nn.ModuleDict({
            "norm": nn.RMSNorm(dim, eps=1e-5), "qkv": nn.Linear(dim, 3 * dim, bias=False), "out": nn.Linear(dim, dim, bias=False),
            "norm_mlp": nn.RMSNorm(dim, eps=1e-5), "up": nn.Linear(dim, 3 * dim, bias=False), "down": nn.Linear(3 * dim, dim, bias=False)})
            for _ in range(layers))
        self.norm = nn.RMSNorm(dim, eps=1e-5)

    def forward(self, ids: Int[Tensor, "rows time"]) -> Float[Tensor, "rows time tokens"]:
        x = self.table[ids] / self.scale + self.places[: ids.shape[1]]
        for layer in self.layers:
            part: Any = layer
            q, k, v = part["qkv"](part["norm"](x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
            x = x + part["out"](F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
            x = x + part["down"](F.silu(part["up"](part["norm_mlp"](x))))
        return self.norm(x) @ self.table.T


def imitation(logits: Float[Tensor, "tokens vocabulary"], found: Neighbours | None, target: Int[Tensor, " tokens"], share: float) -> Float[Tensor, ""]:
    """share * KL(p_kNN || p) + (1 - share) * cross-entropy, in nats a token; `found` None or `share` 0 leaves the cross-entropy alone."""
    log = logits.log_softmax(1)
    plain = F.nll_loss(log, target)
    if found is None or share == 0:
        return plain
    odds = found.odds(logits.shape[1])
    return share * (torch.xlogy(odds, odds) - odds * log).sum(1).mean() + (1 - share) * plain
