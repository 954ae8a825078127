"""What a memory is to the net around it: a mixer of tokens with a parallel form and a recurrent form that must agree."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

KEY, VALUE = 24, 48  # a key, and a value, in floats: one memory matrix is KEY x VALUE = 1,152 floats, whoever holds it
STEM = 4  # tokens that the convolution in front of every mixer sees

Kept = dict[str, Tensor]  # what a mixer carries from token to token; the first axis of every tensor is the batch
Seen = dict[str, Tensor]  # what a mixer did at one token: (batch, ...), for people to look at, never read again


@dataclass
class Along:
    """What goes along with one pass from layer to layer: the notes of the layer below, and losses that a mixer adds in training."""

    position: int = 0  # of the token, in a step
    notes: Any = None
    losses: list[Tensor] = field(default_factory=list)


class Mixer(nn.Module):
    """`forward` reads all tokens at once, `step` one after the other: the same figures. A step never changes a tensor that it was given."""

    def forward(self, x: Float[Tensor, "batch time dim"], along: Along) -> Float[Tensor, "batch time dim"]:
        raise NotImplementedError

    def start(self, batch: int) -> Kept:
        """What is carried before the first token."""
        raise NotImplementedError

    def step(self, x: Float[Tensor, "batch dim"], kept: Kept, along: Along) -> tuple[Float[Tensor, "batch dim"], Kept, Seen]:
        raise NotImplementedError


class Stem(nn.Module):
    """A causal convolution over the last tokens, one filter a channel, in front of every mixer: so that a value can be stored under the token before it."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(dim, dim, STEM, groups=dim)

    def forward(self, x: Float[Tensor, "batch time dim"]) -> Float[Tensor, "batch time dim"]:
        return F.silu(self.conv(F.pad(x.transpose(1, 2), (STEM - 1, 0))).transpose(1, 2))

    def start(self, batch: int) -> Tensor:
        return self.conv.weight.new_zeros(batch, STEM - 1, self.conv.out_channels)

    def step(self, x: Float[Tensor, "batch dim"], last: Float[Tensor, "batch before dim"]) -> tuple[Tensor, Tensor]:
        """The output at this token, and the last tokens for the next."""
        seen = torch.cat([last, x[:, None]], 1)
        assert self.conv.bias is not None
        return F.silu((seen * self.conv.weight[:, 0].T).sum(1) + self.conv.bias), seen[:, 1:]


def unit(x: Tensor) -> Tensor:
    """Vectors of length 1."""
    return F.normalize(x, dim=-1, eps=1e-6)


def scatter(weights: Float[Tensor, "batch kept"], at: Float[Tensor, "batch kept"], read: int) -> Float[Tensor, "batch read"]:
    """Weights over what is kept, as weights over all tokens that were read; `at` says where each stood, -1 where nothing is."""
    at = at.long()
    full = weights.new_zeros(len(weights), read + 1)
    return full.scatter_add(1, torch.where(at < 0, read, at), weights)[:, :read]
