"""How a block was called, and what of that belongs to some of its tokens."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Heads:
    """A tensor whose first axis runs over the heads of every row."""

    value: Tensor


@dataclass
class Calls:
    """The arguments of one call of every block on all `tokens`, by name and without the hidden states. What several blocks were given is cut once."""

    tokens: int
    device: torch.device
    each: list[dict[str, Any]] = field(default_factory=list)
    _signatures: dict[Any, inspect.Signature] = field(default_factory=dict)
    _rows: dict[int, tuple[Any, Any]] = field(default_factory=dict)  # id of an argument -> it, so that the id stays its own, and its first row
    _cuts: dict[tuple[int, int, int], Any] = field(default_factory=dict)

    def note(self, block: nn.Module, args: tuple, kwargs: dict[str, Any]) -> Tensor:
        """Keeps the arguments of a call, those of all rows cut down to the first row's; returns the hidden states. Raises `TypeError` where the block does
        not say what it takes."""
        signature = self._signature(block)
        named = dict(signature.bind(*args, **kwargs).arguments)
        for name, parameter in signature.parameters.items():
            if parameter.kind is parameter.VAR_KEYWORD:
                named |= named.pop(name, {})
        hidden = named.pop(next(iter(signature.parameters)))
        self.each.append({n: self._first_row(v, hidden.shape[0]) for n, v in named.items()})
        return hidden

    def part(self, layer: int, rows: int, start: int, stop: int) -> dict[str, Any]:
        """The arguments of block `layer` for `rows` of the tokens from `start` to `stop`."""
        return {n: spread(self._part(n, v, start, stop), rows) for n, v in self.each[layer].items()}

    def forget(self) -> None:
        """Lets go of the graph that the arguments hang on."""
        self.each = [{n: detached(v) for n, v in call.items()} for call in self.each]
        self._rows, self._cuts = {}, {}

    def _signature(self, block: nn.Module) -> inspect.Signature:
        if "forward" in block.__dict__:  # accelerate puts one on a block that it moves
            return inspect.signature(block.forward)
        if type(block) not in self._signatures:
            self._signatures[type(block)] = inspect.signature(block.forward)
        return self._signatures[type(block)]

    def _first_row(self, value: Any, rows: int) -> Any:
        if id(value) not in self._rows:
            self._rows[id(value)] = value, first_row(value, rows)
        return self._rows[id(value)][1]

    def _part(self, name: str, value: Any, start: int, stop: int) -> Any:
        # without a mask, fewer queries than keys would be read as if they began at the first key
        unmasked = name == "attention_mask" and value is None and stop - start > 1 and start > 0
        key = -1 if unmasked else id(value), start, stop
        if key not in self._cuts:
            self._cuts[key] = (torch.ones(1, 1, stop - start, stop, dtype=torch.bool, device=self.device).tril(start) if unmasked
                               else cut(value, start, stop, self.tokens))
        return self._cuts[key]


def detached(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return type(value)(detached(v) for v in value)
    if isinstance(value, Heads):
        return Heads(value.value.detach())
    return value.detach() if isinstance(value, Tensor) else value


def first_row(value: Any, rows: int) -> Any:
    """All rows are called alike, so the first says it all: (rows, ...) becomes (1, ...), (rows times heads, ...) becomes (heads, ...)."""
    if isinstance(value, (tuple, list)):
        return type(value)(first_row(v, rows) for v in value)
    if isinstance(value, Tensor) and value.dim() > 1 and value.shape[0] % rows == 0:
        return Heads(value[: value.shape[0] // rows]) if value.shape[0] > rows else value[:1]
    return value


def cut(value: Any, start: int, stop: int, tokens: int) -> Any:
    """The part of an argument that belongs to the queries from `start` to `stop`, and to the keys up to `stop`."""
    if isinstance(value, (tuple, list)):
        return type(value)(cut(v, start, stop, tokens) for v in value)
    if isinstance(value, Heads):
        return Heads(cut(value.value, start, stop, tokens))
    if not isinstance(value, Tensor):
        return value
    if value.dim() > 3 and value.shape[-2:] == (tokens, tokens):  # a mask: queries and keys
        return value[..., start:stop, :stop]
    if value.dim() > 2 and value.shape[-1] == tokens and value.shape[-2] == 1:  # a bias of the keys
        return value[..., :stop]
    axes = [axis for axis in range(min(1, value.dim() - 1), value.dim()) if value.shape[axis] == tokens]
    return value.narrow(axes[0], start, stop - start) if axes else value


def spread(value: Any, rows: int) -> Any:
    """For so many rows again."""
    if isinstance(value, (tuple, list)):
        return type(value)(spread(v, rows) for v in value)
    return value.value.repeat(rows, *[1] * (value.value.dim() - 1)) if isinstance(value, Heads) else value
