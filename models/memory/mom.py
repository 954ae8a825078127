"""Mixture of Memories: several linear memories and a router that sends every token to a few of them; one more takes everything."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from models.memory.mixer import KEY, VALUE, Along, Kept, Mixer, Seen

BALANCE = 0.01  # weight of the loss that keeps the router from sending everything to one memory


class MixtureOfMemories(Mixer):
    """M_m += k^m_t (v^m_t)^T for the `top` memories m that the router chose, y_t = norm(sum_m g_m M_m^T q_t + M_shared^T q_t).

    g is the softmax of the router over all memories, cut to the chosen ones and made to sum to 1; a memory that was not chosen stays as it was.
    Every memory has projections of its own, q is common. `top` equal to `memories` is the control: no token is kept from any memory, and the
    router only weighs what is read. One memory, `top` 0 (no router) and no shared one is linear attention. Du et al. 2025, arXiv 2502.13685.
    """

    def __init__(self, dim: int, memories: int = 4, top: int = 2, shared: bool = True) -> None:
        super().__init__()
        self.memories, self.top, self.shared = memories, top, shared
        self.total = memories + shared
        self.q = nn.Linear(dim, KEY, bias=False)
        self.k, self.v = nn.Linear(dim, KEY * self.total, bias=False), nn.Linear(dim, VALUE * self.total, bias=False)
        self.router = nn.Linear(dim, memories, bias=False) if top else None
        self.norm, self.out = nn.RMSNorm(VALUE, eps=1e-5), nn.Linear(VALUE, dim, bias=False)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q (..., KEY), k (..., total, KEY), v (..., total, VALUE)."""
        k, v = F.silu(self.k(x)).unflatten(-1, (self.total, KEY)), self.v(x).unflatten(-1, (self.total, VALUE))
        return F.silu(self.q(x)), k, v

    def route(self, x: Tensor, along: Along) -> Tensor:
        """(..., total): how much of each memory is read; 0 where a token neither reads nor writes. The shared memory, the last, has 1."""
        if self.router is None:
            return x.new_ones(*x.shape[:-1], self.total)
        odds = self.router(x).softmax(-1)
        best = odds.topk(self.top, dim=-1)
        gates = torch.zeros_like(odds).scatter(-1, best.indices, best.values / best.values.sum(-1, keepdim=True))
        if self.training:
            used = (gates > 0).flatten(0, -2).to(odds).mean(0) / self.top
            along.losses.append(BALANCE * self.memories * (used * odds.flatten(0, -2).mean(0)).sum())
        return torch.cat([gates, odds.new_ones(*odds.shape[:-1], 1)], -1) if self.shared else gates

    def forward(self, x: Float[Tensor, "batch time dim"], along: Along) -> Float[Tensor, "batch time dim"]:
        q, k, v = self.project(x)
        gates = self.route(x, along)
        k = k * (gates > 0)[..., None]
        y = torch.zeros_like(v[:, :, 0])
        for m in range(self.total):
            y = y + gates[..., m, None] * ((q @ k[:, :, m].transpose(1, 2)).tril() @ v[:, :, m])
        return self.out(self.norm(y))

    def start(self, batch: int) -> Kept:
        return {"memories": self.out.weight.new_zeros(batch, self.total, KEY, VALUE)}

    def step(self, x: Float[Tensor, "batch dim"], kept: Kept, along: Along) -> tuple[Float[Tensor, "batch dim"], Kept, Seen]:
        """Seen: `routing` (batch, memories) the gates, 0 to 1 (the shared memory last); `written` and `held` (batch): norms of what is added and was held."""
        q, k, v = self.project(x)
        gates = self.route(x, along)
        added = (gates > 0)[..., None, None] * k[..., None] * v[:, :, None]
        memories = kept["memories"] + added
        y = (gates[..., None] * (q[:, None, None] @ memories)[:, :, 0]).sum(1)
        seen = {"routing": gates, "written": added.flatten(1).norm(dim=1), "held": kept["memories"].flatten(1).norm(dim=1)}
        return self.out(self.norm(y)), {"memories": memories}, seen
