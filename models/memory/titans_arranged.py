"""Titans' three arrangements of its memory and attention: memory as context, as a gate, as a layer."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from models.memory.attention import Attention
from models.memory.mixer import KEY, VALUE, Along, Kept, Mixer, Seen
from models.memory.titans import CHUNK, Memory, Titans

PERSISTENT = 4  # learned tokens that stand before every segment
WINDOW = 16  # of the attention beside or above the memory


class MemoryAsContext(Mixer):
    """Segments of CHUNK tokens: attention over [learned tokens | what memory says to each token | the tokens], whose output is written, and gates what is read.

    h_t = M^T q_t with M as it was before the segment, y = x + attention of token t over the learned tokens and h and x up to t, then M is written with y,
    and the output is y * sigmoid(norm(M_t^T q(y_t))). The paper leaves the gate's nonlinearity open, and lets a token see all h of its segment; we keep to
    those up to itself, so that nothing comes from the future. Behrouz et al. 2024, arXiv 2501.00663, section 4.1.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.memory = Memory(dim)
        self.learned = nn.Parameter(torch.randn(PERSISTENT, dim))
        self.q, self.k = nn.Linear(dim, KEY, bias=False), nn.Linear(dim, KEY, bias=False)
        self.v, self.mix = nn.Linear(dim, VALUE, bias=False), nn.Linear(VALUE, dim, bias=False)
        self.norm, self.context = nn.RMSNorm(VALUE, eps=1e-5), nn.Linear(VALUE, dim, bias=False)
        self.norm_out, self.out = nn.RMSNorm(VALUE, eps=1e-5), nn.Linear(dim, dim, bias=False)

    def attend(self, x: Tensor, known: Tensor, may: Tensor) -> tuple[Tensor, Tensor]:
        """x (batch, time, dim) and its attention over `known` (batch, tokens, dim) where `may` (time, tokens), and the weights."""
        scores = self.q(x) @ self.k(known).transpose(1, 2) / math.sqrt(KEY)
        weights = scores.masked_fill(~may, -math.inf).softmax(-1)
        return x + self.mix(weights @ self.v(known)), weights

    def told(self, x: Tensor, memory: Tensor) -> Tensor:
        """What the memory says to tokens (batch, time, dim)."""
        return self.context(self.norm(self.memory.query(x) @ memory))

    def gate(self, y: Tensor, recalled: Tensor) -> Tensor:
        return self.out(y * self.norm_out(recalled).sigmoid())

    def forward(self, x: Float[Tensor, "batch time dim"], along: Along) -> Float[Tensor, "batch time dim"]:
        kept, ys = self.memory.start(len(x)), []
        learned = self.learned.expand(len(x), -1, -1)
        for part in x.split(CHUNK, 1):
            time = part.shape[1]
            past = torch.ones(time, time, dtype=torch.bool, device=x.device).tril()
            may = torch.cat([past.new_ones(time, PERSISTENT), past, past], 1)
            y, _ = self.attend(part, torch.cat([learned, self.told(part, kept["memory"]), part], 1), may)
            recalled, kept = self.memory.read(self.memory.query(y), self.memory.prepare(y), kept)
            ys.append(self.gate(y, recalled))
        return torch.cat(ys, 1)

    def start(self, batch: int) -> Kept:
        empty = self.out.weight.new_zeros(batch, 0, self.out.in_features)
        return self.memory.start(batch) | {"told": empty, "segment": empty}

    def step(self, x: Float[Tensor, "batch dim"], kept: Kept, along: Along) -> tuple[Float[Tensor, "batch dim"], Kept, Seen]:
        """Seen: as `Memory.write`, and `looks` (batch, 3): attention to the learned tokens, to what memory said, to the segment; sums to 1."""
        fresh = along.position % CHUNK == 0
        told, segment = (kept[n][:, :0] if fresh else kept[n] for n in ("told", "segment"))
        told = torch.cat([told, self.told(x[:, None], kept["memory"] if fresh else kept["before"])], 1)
        segment = torch.cat([segment, x[:, None]], 1)
        known = torch.cat([self.learned.expand(len(x), -1, -1), told, segment], 1)
        y, weights = self.attend(x[:, None], known, torch.ones(1, known.shape[1], dtype=torch.bool, device=x.device))
        memory, seen = self.memory.write(y[:, 0], {n: kept[n] for n in ("memory", "momentum", "before")}, along.position)
        seen["looks"] = torch.stack([w.sum(-1) for w in weights[:, 0].split([PERSISTENT, told.shape[1], segment.shape[1]], 1)], 1)
        return self.gate(y, self.memory.query(y) @ memory["memory"])[:, 0], memory | {"told": told, "segment": segment}, seen


class MemoryAsGate(Mixer):
    """Window attention and the memory side by side, both normed; the attention, through a SiLU, gates what the memory says: out(silu(norm(A)) * norm(M)).

    The paper multiplies the two normed branches through a nonlinearity that it leaves open. Behrouz et al. 2024, arXiv 2501.00663, section 4.2.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.attention, self.titans = Attention(dim, WINDOW), Titans(dim)
        self.norm = nn.RMSNorm(dim, eps=1e-5)

    def gate(self, attended: Tensor, recalled: Tensor) -> Tensor:
        return self.titans.out(F.silu(self.norm(attended)) * recalled)

    def forward(self, x: Float[Tensor, "batch time dim"], along: Along) -> Float[Tensor, "batch time dim"]:
        return self.gate(self.attention(x, along), self.titans.recall(x))

    def start(self, batch: int) -> Kept:
        return self.titans.start(batch) | self.attention.start(batch)

    def step(self, x: Float[Tensor, "batch dim"], kept: Kept, along: Along) -> tuple[Float[Tensor, "batch dim"], Kept, Seen]:
        """Seen: as `Memory.write` and `Attention.step`."""
        attended, window, seen = self.attention.step(x, kept, along)
        recalled, memory, more = self.titans.recall_step(x, kept, along)
        return self.gate(attended, recalled), memory | window, seen | more


class MemoryAsLayer(Mixer):
    """The memory first, window attention over what it says, each added to what it was given: t + attention(norm(x + t)), t what the memory says.

    Behrouz et al. 2024, arXiv 2501.00663, section 4.3.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.titans, self.attention = Titans(dim), Attention(dim, WINDOW)
        self.norm = nn.RMSNorm(dim, eps=1e-5)

    def forward(self, x: Float[Tensor, "batch time dim"], along: Along) -> Float[Tensor, "batch time dim"]:
        told = self.titans(x, along)
        return told + self.attention(self.norm(x + told), along)

    def start(self, batch: int) -> Kept:
        return self.titans.start(batch) | self.attention.start(batch)

    def step(self, x: Float[Tensor, "batch dim"], kept: Kept, along: Along) -> tuple[Float[Tensor, "batch dim"], Kept, Seen]:
        """Seen: as `Memory.write` and `Attention.step`."""
        told, memory, seen = self.titans.step(x, kept, along)
        y, window, more = self.attention.step(self.norm(x + told), kept, along)
        return told + y, memory | window, seen | more
