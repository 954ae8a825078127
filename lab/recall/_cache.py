"""Layers of a transformers cache that keep less than all: evicting, quantized, renumbered."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers.cache_utils import DynamicLayer

GROUP = 16  # tokens that share a scale in a quantized key; as many at most stay as they are


class KeptLayer(DynamicLayer):
    """A layer that forgets when it is told to, after a piece of the text was read. Positions go on as in the text: `read` counts all tokens.

    Keys and values are (rows, heads, tokens, size). All that is kept lies before what is read, so a causal mask lets every query see it.
    """

    keys: Any  # a tensor, None before anything is read
    values: Any

    def __init__(self) -> None:
        super().__init__()
        self.read = 0

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        self.read += key_states.shape[-2]
        return super().update(key_states, value_states)

    @property
    def held(self) -> int:
        return super().get_seq_length()

    def get_seq_length(self) -> int:
        return self.read

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.held + query_length, self.read - self.held

    def trim(self, pattern: Float[Tensor, "rows heads queries keys"] | None) -> None:
        """Forgets what the policy forgets. `pattern` is the attention that was just paid, for a policy that asks for it."""

    def size(self) -> int:
        """Bytes that are held for all rows."""
        return sum(t.numel() * t.element_size() for t in (self.keys, self.values) if t is not None)


class SinkLayer(KeptLayer):
    """The first `sinks` tokens and the latest others, `kept` in all. With `frequencies`, positions are those within the memory: queries and recent keys keep
    theirs, and the keys of the sinks are turned up to where the window begins, which comes to the same, as only distances count."""

    def __init__(self, sinks: int, kept: int, frequencies: Float[Tensor, " pairs"] | None = None) -> None:
        super().__init__()
        self.sinks, self.kept, self.frequencies = min(sinks, kept - 1), kept, frequencies

    def trim(self, pattern: Tensor | None) -> None:
        if (gone := self.held - self.kept) <= 0:
            return
        first, last = self.keys[:, :, : self.sinks], self.keys[:, :, self.sinks + gone :]
        if self.frequencies is not None:
            first = turned(first, gone, self.frequencies)
        self.keys = torch.cat([first, last], 2)
        self.values = torch.cat([self.values[:, :, : self.sinks], self.values[:, :, self.sinks + gone :]], 2)


class HeavyLayer(KeptLayer):
    """The latest `kept` - `kept` // 2 tokens, and of the others the `kept` // 2 with the largest sum of attention from all queries since they were read.

    Every head of keys chooses for itself; query heads that share it are summed.
    """

    def __init__(self, kept: int) -> None:
        super().__init__()
        self.kept, self.heavy = kept, kept // 2
        self.sums: Tensor | None = None  # rows, heads, tokens

    def trim(self, pattern: Tensor | None) -> None:
        assert pattern is not None
        rows, heads, held, _ = self.keys.shape
        paid = pattern.float().sum(2).unflatten(1, (heads, -1)).sum(2)
        if self.sums is not None:
            paid[..., : self.sums.shape[-1]] += self.sums
        if held > self.kept:
            old = held - (self.kept - self.heavy)
            chosen = paid[..., :old].topk(self.heavy, -1).indices.sort(-1).values
            index = torch.cat([chosen, torch.arange(old, held, device=chosen.device).expand(rows, heads, -1)], -1)
            paid = paid.gather(2, index)
            self.keys, self.values = picked(self.keys, index), picked(self.values, index)
        self.sums = paid

    def size(self) -> int:
        return super().size() + (0 if self.sums is None else self.sums.numel() * self.sums.element_size())


class QuantizedLayer(KeptLayer):
    """All tokens at `bits` bits a number, but for the latest, fewer than two groups. Keys share a scale by channel within a group of tokens, values by token.

    Codes lie in whole bytes here; `size` counts what they take when packed, with their scales and least values.
    """

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits
        self.groups: list[tuple[tuple[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]] = []

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        keys, values = super().update(key_states, value_states)
        told = [(restored(*k), restored(*v)) for k, v in self.groups]
        return torch.cat([*(k for k, _ in told), keys], 2), torch.cat([*(v for _, v in told), values], 2)

    @property
    def held(self) -> int:
        return super().held + GROUP * len(self.groups)

    def trim(self, pattern: Tensor | None) -> None:
        while self.keys.shape[2] >= 2 * GROUP:
            first = [coded(x[:, :, :GROUP], self.bits, over) for x, over in ((self.keys, 2), (self.values, 3))]
            self.groups.append((first[0], first[1]))
            self.keys, self.values = self.keys[:, :, GROUP:], self.values[:, :, GROUP:]

    def size(self) -> int:
        parts = [part for pair in self.groups for part in pair]
        scales = sum(t.numel() * t.element_size() for _, *rest in parts for t in rest)
        return super().size() + scales + sum(-(-codes.numel() * self.bits // 8) for codes, *_ in parts)


def coded(x: Tensor, bits: int, over: int) -> tuple[Tensor, Tensor, Tensor]:
    """(codes, scale, least): x ~ least + scale * code, the range of x over the dimension `over` cut into 2^bits - 1 equal steps."""
    low, high = x.amin(over, keepdim=True), x.amax(over, keepdim=True)
    scale = (high - low) / (2**bits - 1)
    return ((x - low) / torch.where(scale > 0, scale, 1)).round().to(torch.uint8), scale, low


def restored(codes: Tensor, scale: Tensor, low: Tensor) -> Tensor:
    return low + scale * codes.to(scale.dtype)


def picked(x: Float[Tensor, "rows heads tokens size"], index: Int[Tensor, "rows heads kept"]) -> Float[Tensor, "rows heads kept size"]:
    return x.gather(2, index.unsqueeze(-1).expand(-1, -1, -1, x.shape[-1]))


def turned(keys: Float[Tensor, "rows heads tokens size"], by: int, frequencies: Float[Tensor, " pairs"]) -> Float[Tensor, "rows heads tokens size"]:
    """Keys as they would be `by` positions later: number i of the first half of what rotates is paired with number i of the second (Su et al. 2021)."""
    pairs = len(frequencies)
    angle = by * frequencies.float()
    a, b, rest = keys[..., :pairs].float(), keys[..., pairs : 2 * pairs].float(), keys[..., 2 * pairs :]
    cos, sin = angle.cos(), angle.sin()
    return torch.cat([(a * cos - b * sin).to(keys.dtype), (b * cos + a * sin).to(keys.dtype), rest], -1)
