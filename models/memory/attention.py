"""Softmax attention: over everything, over a window of the last tokens, or over the first few (sinks) and a window."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from models.memory.mixer import KEY, VALUE, Along, Kept, Mixer, Seen, scatter


class Attention(Mixer):
    """One head without positions: y_t = sum over kept s of softmax(q_t k_s / sqrt(d)) v_s.

    Token t keeps itself and the `window - 1` before it, and the first `sinks` of all; `window` None keeps everything. The state is the kept
    keys and values: it grows to its bound, and what leaves the window is gone at once.
    Vaswani et al. 2017, arXiv 1706.03762; sinks: Xiao et al. 2023, arXiv 2309.17453.
    """

    def __init__(self, dim: int, window: int | None = None, sinks: int = 0) -> None:
        super().__init__()
        self.window, self.sinks = window, sinks
        self.q, self.k = nn.Linear(dim, KEY, bias=False), nn.Linear(dim, KEY, bias=False)
        self.v, self.out = nn.Linear(dim, VALUE, bias=False), nn.Linear(VALUE, dim, bias=False)

    def forward(self, x: Float[Tensor, "batch time dim"], along: Along) -> Float[Tensor, "batch time dim"]:
        scores = self.q(x) @ self.k(x).transpose(1, 2) / math.sqrt(KEY)
        weights = scores.masked_fill(~visible(x.shape[1], self.window, self.sinks, x.device), -math.inf).softmax(-1)
        return self.out(weights @ self.v(x))

    def start(self, batch: int) -> Kept:
        new = self.out.weight.new_zeros
        return {"keys": new(batch, 0, KEY), "values": new(batch, 0, VALUE), "at": new(batch, 0)}

    def attend(self, x: Float[Tensor, "batch dim"], kept: Kept, along: Along) -> tuple[Float[Tensor, "batch value"], Kept, Seen]:
        """One token, before the last projection."""
        keys, values = torch.cat([kept["keys"], self.k(x)[:, None]], 1), torch.cat([kept["values"], self.v(x)[:, None]], 1)
        at = torch.cat([kept["at"], x.new_full((len(x), 1), along.position)], 1)
        stay = torch.ones_like(at[0], dtype=torch.bool) if self.window is None else (at[0] > along.position - self.window) | (at[0] < self.sinks)
        keys, values, at = keys[:, stay], values[:, stay], at[:, stay]
        weights = ((keys @ self.q(x)[:, :, None])[..., 0] / math.sqrt(KEY)).softmax(-1)
        seen = {"attention": scatter(weights, at, along.position + 1), "dropped": weights.new_full((len(x),), float((~stay).sum()))}
        return (weights[:, None] @ values)[:, 0], {"keys": keys, "values": values, "at": at}, seen

    def step(self, x: Float[Tensor, "batch dim"], kept: Kept, along: Along) -> tuple[Float[Tensor, "batch dim"], Kept, Seen]:
        """Seen: `attention` (batch, tokens read), 0 to 1, of every token read so far; those that are gone have 0. `dropped` (batch): tokens that left."""
        y, new, seen = self.attend(x, kept, along)
        return self.out(y), new, seen


def visible(time: int, window: int | None, sinks: int, device: torch.device) -> Bool[Tensor, "time time"]:
    """[t, s]: whether token t still holds token s."""
    t, s = torch.arange(time, device=device)[:, None], torch.arange(time, device=device)
    return (s <= t) if window is None else (s <= t) & ((s > t - window) | (s < sinks))
