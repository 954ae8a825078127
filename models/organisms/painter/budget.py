"""How long to train: by steps, or by the clock, with a learning rate that follows."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

WARM, FLAT = 0.01, 0.4  # shares of the budget: rising, then flat


@dataclass
class Budget:
    """Ends when either runs out: `steps`, or `seconds` from when the budget was made. One of them may be missing."""

    steps: int | None = None
    seconds: float | None = None
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        if not self.steps and not self.seconds:
            raise ValueError("a budget needs steps or seconds")

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.began

    def share(self, done: int) -> float:
        """What has been used after `done` steps, 0 to 1 and beyond."""
        by_steps = done / self.steps if self.steps else 0.0
        by_clock = self.elapsed / self.seconds if self.seconds else 0.0
        return max(by_steps, by_clock)


def rate(share: float) -> float:
    """Share of the full learning rate: up, flat, then half a cosine to a hundredth."""
    if share < WARM:
        return 0.05 + 0.95 * share / WARM
    if share < FLAT:
        return 1.0
    return 0.01 + 0.99 * (0.5 + 0.5 * math.cos(math.pi * min(1.0, (share - FLAT) / (1 - FLAT))))
