"""Which experts the tokens of a mixture go to, and how often a corruption or a restored state sends them elsewhere.

A router has no name here: it is the innermost part of a block, beside its attention, that gives every token whole numbers, all different. A model
whose routers do not say which experts they took is silent about it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from lab.trace._private import Private
from lab.trace._sites import Taps, is_attention


class Routes:
    """Hooks on the routers of a private net. A choice is that of one token in one layer of one corrupted run; it differs where any expert does."""

    def __init__(self, private: Private, taps: Taps) -> None:
        self.private, self.taps = private, taps
        self.base: dict[nn.Module, Tensor] = {}  # router -> (1 + runs, tokens, experts of a token), in order
        self.now: tuple[slice, int] | None = None  # of what runs now: which corrupted runs its rows are, in turn, and its first token
        self.again = self.elsewhere = 0
        watched = private.routers if private.routers is not None else [m for block in private.stack for m in candidates(block)]
        self.hooks = [module.register_forward_hook(self._see) for module in watched]

    def learn(self) -> None:
        """After the base pass: which of the modules are routers."""
        inner = [m for m in self.base if not any(other in self.base for other in m.modules() if other is not m)]
        self.base = {m: self.base[m] for m in inner}
        if self.private.routers is None:
            self.private.routers = inner
            self.close()
            self.hooks = [module.register_forward_hook(self._see) for module in inner]

    def close(self) -> None:
        for hook in self.hooks:
            hook.remove()

    @contextmanager
    def counting(self, runs: slice, start: int) -> Iterator[None]:
        """Within it choices are compared with those of the corrupted `runs`, from token `start` on."""
        self.now = runs, start
        try:
            yield
        finally:
            self.now = None

    def told(self, begin: int) -> tuple[int, ...]:
        """Choices from token `begin` on that the corruption changed, and all of them; choices that restored states changed, and all that were made again.
        Empty where there are no routers."""
        if not self.base:
            return ()
        changed = [(chosen[1:, begin:] != chosen[:1, begin:]).any(-1) for chosen in self.base.values()]
        return sum(int(c.sum()) for c in changed), sum(c.numel() for c in changed), self.elsewhere, self.again

    def _see(self, module: nn.Module, args: Any, output: Any) -> None:
        if not self.taps.keep and self.now is None:
            return
        chosen = choices(output, self.taps.tokens)
        if chosen is None:
            return
        if self.taps.keep:
            self.base[module] = chosen
        elif self.now is not None and module in self.base:
            runs, start = self.now
            before = self.base[module][1:][runs, start : start + chosen.shape[1]]
            changed = (chosen.unflatten(0, (-1, len(before))) != before).any(-1)
            self.again, self.elsewhere = self.again + changed.numel(), self.elsewhere + int(changed.sum())


def candidates(block: nn.Module) -> Iterator[nn.Module]:
    """The parts of a block that may be routers: attention may choose too, but tokens."""
    for name, child in block.named_children():
        if not is_attention(name, child):
            yield from child.modules()


def choices(output: Any, tokens: int) -> Int[Tensor, "rows tokens experts"] | None:
    """The whole numbers, all different, that a module gives every token, in order; None where it gives none."""
    for value in output if isinstance(output, (tuple, list)) else (output,):
        if isinstance(value, Tensor) and value.dtype in (torch.int32, torch.int64) and value.dim() > 1 and value.shape[:-1].numel() % tokens == 0:
            found = value.reshape(-1, tokens, value.shape[-1]).sort(-1).values
            if (found.diff(dim=-1) > 0).all():
                return found
    return None
