"""The delta rule: what was stored under a key is taken out before the new value is put in; gated, the whole memory fades as well."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from models.memory.mixer import KEY, VALUE, Along, Kept, Mixer, Seen, unit

CHUNK = 32  # tokens that the parallel form solves together


class Delta(Mixer):
    """S_t = a_t S_{t-1} + k_t u_t^T with u_t = b_t (v_t - a_t S_{t-1}^T k_t), y_t = norm(S_t^T q_t); q and k of length 1.

    b_t in 0 to 1 is how far the old value is replaced; a_t in 0 to 1 how much of the memory stays, 1 where `gated` is off.
    DeltaNet: Yang et al. 2024, arXiv 2406.06484; gated: Yang et al. 2024, arXiv 2412.06464.
    """

    def __init__(self, dim: int, gated: bool = True) -> None:
        super().__init__()
        self.q, self.k = nn.Linear(dim, KEY, bias=False), nn.Linear(dim, KEY, bias=False)
        self.v, self.out = nn.Linear(dim, VALUE, bias=False), nn.Linear(VALUE, dim, bias=False)
        self.rate, self.norm = nn.Linear(dim, 1), nn.RMSNorm(VALUE, eps=1e-5)
        self.fade = nn.Linear(dim, 1) if gated else None
        if self.fade is not None:
            nn.init.constant_(self.fade.bias, -4.0)  # keeps 98 % a token before it has learned what to forget

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Queries, keys, values, and of each token: how far it replaces, and the logarithm of what stays."""
        stays = -F.softplus(self.fade(x))[..., 0] if self.fade is not None else x.new_zeros(x.shape[:-1])
        return unit(F.silu(self.q(x))), unit(F.silu(self.k(x))), self.v(x), self.rate(x)[..., 0].sigmoid(), stays

    def forward(self, x: Float[Tensor, "batch time dim"], along: Along) -> Float[Tensor, "batch time dim"]:
        parts = [p.split(CHUNK, 1) for p in self.project(x)]
        memory, ys = self.start(len(x))["memory"], []
        for q, k, v, rate, stays in zip(*parts, strict=True):
            y, memory = chunk(q, k, v, rate, stays, memory)
            ys.append(y)
        return self.out(self.norm(torch.cat(ys, 1)))

    def start(self, batch: int) -> Kept:
        return {"memory": self.out.weight.new_zeros(batch, KEY, VALUE)}

    def step(self, x: Float[Tensor, "batch dim"], kept: Kept, along: Along) -> tuple[Float[Tensor, "batch dim"], Kept, Seen]:
        """Seen, each (batch): `surprise` |v - S k|, `written` |u|, `rate` b, `kept` a, `held` the norm of the memory before."""
        q, k, v, rate, stays = self.project(x)
        memory = stays.exp()[:, None, None] * kept["memory"]
        missing = v - (k[:, None] @ memory)[:, 0]
        new = rate[:, None] * missing
        memory = memory + k[..., None] * new[:, None]
        seen = {"surprise": missing.norm(dim=1), "written": new.norm(dim=1), "rate": rate, "kept": stays.exp(),
                "held": kept["memory"].flatten(1).norm(dim=1)}
        return self.out(self.norm((q[:, None] @ memory)[:, 0])), {"memory": memory}, seen


def chunk(q: Float[Tensor, "batch time key"], k: Float[Tensor, "batch time key"], v: Float[Tensor, "batch time value"],
          rate: Float[Tensor, "batch time"], stays: Float[Tensor, "batch time"],
          memory: Float[Tensor, "batch key value"]) -> tuple[Float[Tensor, "batch time value"], Float[Tensor, "batch key value"]]:
    """All u of a chunk at once: with G_t the product of the a up to t, u_t + b_t sum_{s<t} (G_t / G_s) (k_s k_t) u_s = b_t (v_t - G_t S_0^T k_t)."""
    total = stays.cumsum(1)
    # above the diagonal the exponent would be positive, and large where much is forgotten: zero it before it is raised
    ratio = (total[:, :, None] - total[:, None]).tril().exp().tril()
    lower = (rate[..., None] * ratio * (k @ k.transpose(1, 2))).tril(-1)
    right = rate[..., None] * (v - total.exp()[..., None] * (k @ memory))
    u = torch.linalg.solve_triangular(lower + torch.eye(k.shape[1], device=k.device, dtype=k.dtype), right, upper=False, unitriangular=True)
    y = total.exp()[..., None] * (q @ memory) + (ratio * (q @ k.transpose(1, 2))) @ u
    left = (total[:, -1:] - total).exp()[..., None]
    return y, total[:, -1].exp()[:, None, None] * memory + (left * k).transpose(1, 2) @ u
