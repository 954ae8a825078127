"""Interpolated Kneser-Ney trigrams, the yardstick for an organism's general text. Chen & Goodman 1999, Computer Speech & Language 13."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

DISCOUNT = 0.75


class Trigrams:
    """p(w | u v) over `vocabulary` tokens. Each document stands alone: its first two tokens are context only."""

    def __init__(self, documents: Iterable[Sequence[int]], vocabulary: int, discount: float = DISCOUNT) -> None:
        self.vocabulary, self.discount = vocabulary, discount
        self.three: Counter[tuple[int, int, int]] = Counter()
        for ids in documents:
            self.three.update(zip(ids, ids[1:], ids[2:], strict=False))
        self.two: Counter[tuple[int, int]] = Counter((v, w) for _, v, w in self.three)  # how many words stand before v w
        self.one: Counter[int] = Counter(w for _, w in self.two)  # how many words stand before w
        self.after_two, self.kinds_two = self._totals(((u, v), c) for (u, v, _), c in self.three.items())
        self.after_one, self.kinds_one = self._totals((v, c) for (v, _), c in self.two.items())
        self.pairs = sum(self.one.values())

    @staticmethod
    def _totals(counted: Iterable[tuple[object, int]]) -> tuple[dict[object, int], dict[object, int]]:
        """context -> how many tokens followed it, and how many different ones."""
        totals: dict[object, int] = defaultdict(int)
        kinds: dict[object, int] = defaultdict(int)
        for context, count in counted:
            totals[context] += count
            kinds[context] += 1
        return totals, kinds

    def probability(self, u: int, v: int, w: int) -> float:
        """p(w | u v), discounted and interpolated down to the uniform distribution; sums to 1 over w."""
        d = self.discount
        p = max(self.one[w] - d, 0) / self.pairs + d * len(self.one) / self.pairs / self.vocabulary
        if total := self.after_one.get(v):
            p = max(self.two[v, w] - d, 0) / total + d * self.kinds_one[v] / total * p
        if total := self.after_two.get((u, v)):
            p = max(self.three[u, v, w] - d, 0) / total + d * self.kinds_two[u, v] / total * p
        return p

    def nll(self, ids: Sequence[int]) -> np.ndarray:
        """Nats for every token from the third on."""
        return -np.log([self.probability(*t) for t in zip(ids, ids[1:], ids[2:], strict=False)])
