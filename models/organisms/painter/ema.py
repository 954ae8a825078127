"""The running mean of a net's weights, which is what is kept of it."""

from __future__ import annotations

from typing import Any

import torch

MOST = 0.999


class Mean:
    """`update` after every step; `write` copies the mean into another net of the same build."""

    def __init__(self, *nets: Any) -> None:
        self.live = [p for net in nets for p in net.parameters()]
        self.kept = [p.detach().clone() for p in self.live]
        self.done = 0

    @torch.no_grad()
    def update(self) -> None:
        self.done += 1
        torch._foreach_lerp_(self.kept, [p.detach() for p in self.live], 1 - min(MOST, (1 + self.done) / (10 + self.done)))

    @torch.no_grad()
    def write(self, *nets: Any) -> None:
        for p, kept in zip((p for net in nets for p in net.parameters()), self.kept, strict=True):
            p.copy_(kept)
