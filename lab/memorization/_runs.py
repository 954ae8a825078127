"""Which runs of tokens of given texts stand, token for token, in a sample."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

GAP = -1  # between two texts: no token


class Texts:
    """Texts laid one after the other, with a gap between, so that all of them are searched at once."""

    def __init__(self, rows: Sequence[Sequence[int]]) -> None:
        self.rows = [list(r) for r in rows]
        self.flat = np.array([t for r in self.rows for t in (GAP, *r)], int)
        self.owner = np.repeat(np.arange(len(self.rows)), [1 + len(r) for r in self.rows])

    def ends(self, sample: Sequence[int]) -> np.ndarray:
        """For each place in the texts, the length of the longest run that ends there and stands somewhere in the sample."""
        run, best = np.zeros(len(self.flat), int), np.zeros(len(self.flat), int)
        for token in sample:
            run = np.where(self.flat == token, 1 + np.concatenate([[0], run[:-1]]), 0)
            best = np.maximum(best, run)
        return best

    def find(self, sample: Sequence[int], least: int) -> tuple[int, int, float]:
        """(text, its longest run in tokens, share of its tokens that stand in the sample in runs of at least `least`); (-1, 0, 0) where none is shared.

        The text is the one with the longest run, and of several with runs as long, the one that is covered most.
        """
        ends = self.ends(sample)
        longest = int(ends.max())
        if not longest:
            return -1, 0, 0.0
        shares = {int(i): covered(ends[self.owner == i][1:], least) for i in dict.fromkeys(self.owner[ends == longest].tolist())}
        best = max(shares, key=lambda i: shares[i])
        return best, longest, shares[best]


def covered(ends: np.ndarray, least: int) -> float:
    """Share of places that lie in a run of at least `least`, from the lengths of the longest runs that end at each."""
    inside = np.zeros(len(ends), bool)
    for place in np.flatnonzero(ends >= least):
        inside[place + 1 - ends[place] : place + 1] = True
    return float(inside.mean())
