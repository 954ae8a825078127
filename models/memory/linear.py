"""Linear attention: one matrix that everything is added to; with decay, everything in it fades."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from models.memory.mixer import KEY, VALUE, Along, Kept, Mixer, Seen


class Linear(Mixer):
    """S_t = gamma S_{t-1} + k_t v_t^T, y_t = norm(S_t^T q_t), with q, k = silu of a projection; gamma 1 forgets nothing.

    `decays` gives one gamma to each head; the heads share out the value. Katharopoulos et al. 2020, arXiv 2006.16236; decay and the norm in
    place of a denominator: Sun et al. 2023 (RetNet), arXiv 2307.08621.
    """

    gamma: Tensor

    def __init__(self, dim: int, decays: tuple[float, ...] = (1.0,)) -> None:
        super().__init__()
        self.heads = len(decays)
        self.register_buffer("gamma", torch.tensor(decays), persistent=False)
        self.q, self.k = nn.Linear(dim, KEY * self.heads, bias=False), nn.Linear(dim, KEY * self.heads, bias=False)
        self.v, self.out = nn.Linear(dim, VALUE, bias=False), nn.Linear(VALUE, dim, bias=False)
        self.norm = nn.RMSNorm(VALUE // self.heads, eps=1e-5)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys (..., heads, KEY) and values (..., heads, VALUE / heads)."""
        q, k, v = F.silu(self.q(x)), F.silu(self.k(x)), self.v(x)
        return tuple(t.unflatten(-1, (self.heads, -1)) for t in (q, k, v))  # type: ignore[return-value]

    def forward(self, x: Float[Tensor, "batch time dim"], along: Along) -> Float[Tensor, "batch time dim"]:
        q, k, v = (t.transpose(1, 2) for t in self.project(x))
        steps = torch.arange(x.shape[1], device=x.device)
        back = (steps[:, None] - steps).clamp(min=0)
        weights = (self.gamma[:, None, None] ** back).tril()  # (heads, time, time)
        y = (q @ k.transpose(2, 3) * weights) @ v
        return self.out(self.norm(y).transpose(1, 2).flatten(2))

    def start(self, batch: int) -> Kept:
        return {"memory": self.out.weight.new_zeros(batch, self.heads, KEY, VALUE // self.heads)}

    def step(self, x: Float[Tensor, "batch dim"], kept: Kept, along: Along) -> tuple[Float[Tensor, "batch dim"], Kept, Seen]:
        """Seen, each (batch): `written` the norm of what is added, `held` the norm of the memory before, `kept` gamma, the mean over heads."""
        q, k, v = self.project(x)
        added = k[..., None] * v[..., None, :]
        memory = self.gamma[:, None, None] * kept["memory"] + added
        y = self.out(self.norm((q[..., None, :] @ memory)[..., 0, :]).flatten(1))
        seen = {"written": added.flatten(1).norm(dim=1), "held": kept["memory"].flatten(1).norm(dim=1), "kept": self.gamma.mean().expand(len(x))}
        return y, {"memory": memory}, seen
