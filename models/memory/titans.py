"""Titans: a memory that learns while it reads. What surprises it is written, with momentum, and forgotten by a gate."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from models.memory.mixer import KEY, VALUE, Along, Kept, Mixer, Seen, unit

CHUNK = 8  # tokens whose gradients are taken at the same weights


class Memory(nn.Module):
    """The neural memory itself, a linear map M: S_t = eta_t S_{t-1} - theta_t grad |M_0^T k_t - v_t|^2, M_t = (1 - alpha_t) M_{t-1} + S_t.

    The gradient, the surprise, is 2 k_t (M_0^T k_t - v_t)^T, taken at M_0, the memory before the chunk (as the paper does to train in parallel);
    theta, eta and alpha are sigmoids of a projection of the token; k and q have length 1. `momentum` off: eta 0; `forget` off: alpha 0.
    The paper also has deeper memories; ours is its linear case, L_M = 1. Behrouz et al. 2024, arXiv 2501.00663.
    """

    def __init__(self, dim: int, momentum: bool = True, forget: bool = True) -> None:
        super().__init__()
        self.momentum, self.forget = momentum, forget
        self.q, self.k, self.v = nn.Linear(dim, KEY, bias=False), nn.Linear(dim, KEY, bias=False), nn.Linear(dim, VALUE, bias=False)
        self.gates = nn.Linear(dim, 3)
        with torch.no_grad():
            self.gates.bias.copy_(torch.tensor([-1.0, -1.0, -5.0]))  # small steps, a short momentum, and almost nothing forgotten, before it learns

    def query(self, x: Tensor) -> Tensor:
        return unit(F.silu(self.q(x)))

    def written(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Keys, values, theta, eta and alpha of tokens."""
        theta, eta, alpha = self.gates(x).sigmoid().unbind(-1)
        return unit(F.silu(self.k(x))), self.v(x), theta, eta * self.momentum, alpha * self.forget

    def start(self, batch: int) -> Kept:
        zero = self.v.weight.new_zeros(batch, KEY, VALUE)
        return {"memory": zero, "momentum": zero, "before": zero}

    def prepare(self, x: Float[Tensor, "*batch time dim"]) -> tuple[Tensor, ...]:
        """All of a chunk, or of many (..., time, *), that does not depend on the memory: keys, values, theta, and the weights of what is in M_t and S_t:
        of M_0, of S_0, and of every write so far."""
        k, v, theta, eta, alpha = self.written(x)
        drag, stay = products(eta), products(1 - alpha)
        old_drag = drag[..., 0] * eta[..., :1]
        return k, v, theta, stay[..., 0] * (1 - alpha[..., :1]), (stay @ old_drag[..., None])[..., 0], stay @ drag, old_drag, drag[..., -1, :]

    def read(self, q: Float[Tensor, "batch time key"], prepared: tuple[Tensor, ...], kept: Kept) -> tuple[Float[Tensor, "batch time value"], Kept]:
        """M_t^T q_t of one chunk, each token read after it was written, and what is carried to the next chunk."""
        k, v, theta, of_memory, of_momentum, of_writes, old_drag, drag = prepared
        memory, momentum = kept["memory"], kept["momentum"]
        missing = 2 * theta[..., None] * (k @ memory - v)
        y = of_memory[..., None] * (q @ memory) + of_momentum[..., None] * (q @ momentum) - (of_writes * (q @ k.transpose(1, 2))) @ missing
        new = (of_memory[:, -1, None, None] * memory + of_momentum[:, -1, None, None] * momentum
               - (of_writes[:, -1, :, None] * k).transpose(1, 2) @ missing)
        pushed = old_drag[:, -1, None, None] * momentum - (drag[..., None] * k).transpose(1, 2) @ missing
        return y, {"memory": new, "momentum": pushed, "before": new}

    def write(self, x: Float[Tensor, "batch dim"], kept: Kept, position: int) -> tuple[Kept, Seen]:
        """The memory after one token. Seen, each (batch): `surprise` the norm of the gradient, `written` the norm of S_t, `theta`, `eta`, `alpha`, `held`."""
        k, v, theta, eta, alpha = self.written(x)
        before = kept["memory"] if position % CHUNK == 0 else kept["before"]
        gradient = surprise(before, k, v)
        momentum = eta[:, None, None] * kept["momentum"] - theta[:, None, None] * gradient
        memory = (1 - alpha)[:, None, None] * kept["memory"] + momentum
        seen = {"surprise": gradient.flatten(1).norm(dim=1), "written": momentum.flatten(1).norm(dim=1), "theta": theta, "eta": eta, "alpha": alpha,
                "held": kept["memory"].flatten(1).norm(dim=1)}
        return {"memory": memory, "momentum": momentum, "before": before}, seen


def surprise(memory: Float[Tensor, "batch key value"], k: Float[Tensor, "batch key"], v: Float[Tensor, "batch value"]) -> Float[Tensor, "batch key value"]:
    """The gradient of |M^T k - v|^2 by M."""
    return 2 * k[..., None] * ((k[:, None] @ memory)[:, 0] - v)[:, None]


def products(gates: Float[Tensor, "*batch time"]) -> Float[Tensor, "*batch time time"]:
    """[t, s] = product of the gates after s up to t, 1 on the diagonal, 0 above it; exact also where a gate is 0."""
    one = torch.eye(gates.shape[-1], device=gates.device, dtype=gates.dtype)
    rows = [one[0].expand_as(gates)]
    for t in range(1, gates.shape[-1]):
        rows.append(rows[-1] * gates[..., t, None] + one[t])
    return torch.stack(rows, -2)


class Titans(Mixer):
    """The memory alone, as a mixer: y_t = norm(M_t^T q_t). (The paper's LMM.)"""

    def __init__(self, dim: int, momentum: bool = True, forget: bool = True) -> None:
        super().__init__()
        self.memory = Memory(dim, momentum, forget)
        self.norm, self.out = nn.RMSNorm(VALUE, eps=1e-5), nn.Linear(VALUE, dim, bias=False)

    def recall(self, x: Tensor) -> Tensor:
        """norm(M_t^T q_t) of all tokens (batch, time, VALUE)."""
        time, kept, ys = x.shape[1], self.memory.start(len(x)), []
        chunks = F.pad(x, (0, 0, 0, -time % CHUNK)).unflatten(1, (-1, CHUNK))  # what is padded comes last, and nothing reads it
        for q, *prepared in zip(self.memory.query(chunks).unbind(1), *(p.unbind(1) for p in self.memory.prepare(chunks)), strict=True):
            y, kept = self.memory.read(q, tuple(prepared), kept)
            ys.append(y)
        return self.norm(torch.cat(ys, 1)[:, :time])

    def recall_step(self, x: Tensor, kept: Kept, along: Along) -> tuple[Tensor, Kept, Seen]:
        kept, seen = self.memory.write(x, kept, along.position)
        return self.norm((self.memory.query(x)[:, None] @ kept["memory"])[:, 0]), kept, seen

    def forward(self, x: Float[Tensor, "batch time dim"], along: Along) -> Float[Tensor, "batch time dim"]:
        return self.out(self.recall(x))

    def start(self, batch: int) -> Kept:
        return self.memory.start(batch)

    def step(self, x: Float[Tensor, "batch dim"], kept: Kept, along: Along) -> tuple[Float[Tensor, "batch dim"], Kept, Seen]:
        """Seen: as `Memory.write`."""
        y, kept, seen = self.recall_step(x, kept, along)
        return self.out(y), kept, seen

