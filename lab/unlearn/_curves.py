"""The curves of a run, collected as it goes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lab.events import Unlearning

Key = tuple[str, str]  # (group, name)


class Curves:
    """Values by step; each series has what is wanted of it, and the place of the oracles, NaN where none is known."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.steps: list[int] = []
        self._better: dict[Key, str] = {}
        self._band: dict[Key, tuple[float, float]] = {}
        self._value: dict[Key, dict[int, float]] = {}

    def put(self, step: int, group: str, name: str, better: str, value: float) -> None:
        if step not in self.steps:
            self.steps.append(step)
        self._better.setdefault((group, name), better)
        self._value.setdefault((group, name), {})[step] = value

    def band(self, group: str, name: str, values: Sequence[float]) -> None:
        known = [v for v in values if not np.isnan(v)]
        if known:
            self._band[group, name] = (min(known), max(known))

    def event(self, layers: tuple[str, ...], change: Sequence[float], samples: tuple[tuple[str, str, str, str, str], ...], cost: float,
              facts: tuple[str, ...], ended: str = "") -> Unlearning:
        order = list(dict.fromkeys(group for group, _ in self._value))
        keys = sorted(self._value, key=lambda key: order.index(key[0]))  # stable: within a group as they came
        value = np.array([[self._value[key].get(step, np.nan) for step in self.steps] for key in keys]).reshape(len(keys), len(self.steps))
        low, high = (np.array([self._band.get(key, (np.nan, np.nan))[side] for key in keys], float) for side in (0, 1))
        return Unlearning(self.title, np.array(self.steps, float), tuple(n for _, n in keys), tuple(g for g, _ in keys),
                          tuple(self._better[key] for key in keys), value, low, high, samples, layers, np.array(change, float), cost, ended, facts)
