"""Mamba-2: a state space whose every token decides how much of the state it replaces."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from models.memory.mixer import KEY, VALUE, Along, Kept, Mixer, Seen

HEADS = 2
A, D = (0.02, 0.1), 0.5  # before it has learned: each head keeps 99 % and 95 % a token. With the paper's values (1 to 16, .001 to .1) it did not learn here


class Mamba2(Mixer):
    """h_t = exp(-d_t A) h_{t-1} + d_t B_t x_t^T, y_t = norm((C_t^T h_t + D x_t) * silu(z_t)); d_t > 0 and A > 0 a head, B and C shared by the heads.

    d_t both writes and forgets: that one gate does both is what sets it apart from the delta rule. The state has KEY floats a channel and the
    width is not expanded, so that it holds as much as the other memories. Dao & Gu 2024, arXiv 2405.21060.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.b, self.c = nn.Linear(dim, KEY, bias=False), nn.Linear(dim, KEY, bias=False)
        self.x, self.z = nn.Linear(dim, VALUE, bias=False), nn.Linear(dim, VALUE, bias=False)
        self.delta, self.out = nn.Linear(dim, HEADS), nn.Linear(VALUE, dim, bias=False)
        self.log_a, self.skip = nn.Parameter(torch.tensor(A).log()), nn.Parameter(torch.ones(HEADS))
        self.norm = nn.RMSNorm(VALUE, eps=1e-5)
        with torch.no_grad():
            self.delta.bias.fill_(math.log(math.expm1(D)))

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """B, C (..., KEY), what is written (..., heads, channels) and d (..., heads)."""
        return F.silu(self.b(x)), F.silu(self.c(x)), F.silu(self.x(x)).unflatten(-1, (HEADS, -1)), F.softplus(self.delta(x))

    def finish(self, y: Tensor, x: Tensor, source: Tensor) -> Tensor:
        return self.out(self.norm((y + self.skip[:, None] * x).flatten(-2) * F.silu(self.z(source))))

    def forward(self, x: Float[Tensor, "batch time dim"], along: Along) -> Float[Tensor, "batch time dim"]:
        b, c, inner, d = self.project(x)
        total = (-d * self.log_a.exp()).cumsum(1).transpose(1, 2)  # (batch, heads, time)
        ratio = (total[..., :, None] - total[..., None, :]).tril().exp().tril()
        weights = ratio * (c @ b.transpose(1, 2))[:, None]
        y = weights @ (d[..., None] * inner).transpose(1, 2)
        return self.finish(y.transpose(1, 2), inner, x)

    def start(self, batch: int) -> Kept:
        return {"state": self.out.weight.new_zeros(batch, HEADS, KEY, VALUE // HEADS)}

    def step(self, x: Float[Tensor, "batch dim"], kept: Kept, along: Along) -> tuple[Float[Tensor, "batch dim"], Kept, Seen]:
        """Seen, each (batch), means over the heads: `kept` exp(-d A), `written` the norm of what is added, `held` the norm of the state before."""
        b, c, inner, d = self.project(x)
        stays = (-d * self.log_a.exp()).exp()
        added = b[:, None, :, None] * (d[..., None] * inner)[:, :, None]
        state = stays[..., None, None] * kept["state"] + added
        y = (c[:, None, None] @ state)[:, :, 0]
        seen = {"kept": stays.mean(1), "written": added.flatten(1).norm(dim=1), "held": kept["state"].flatten(1).norm(dim=1)}
        return self.finish(y, inner, x), {"state": state}, seen
