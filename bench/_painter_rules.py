"""What counts as a copy and which guidance is the default, by rules that do not look at what they are to prove."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

STEP = 0.05
CLOSE = 0.01  # of SSIM
ENOUGH = 0.9  # share of pictures of many copies that come back


def threshold(oracle: Sequence[np.ndarray]) -> float:
    """The lowest multiple of STEP that no picture of the oracle passes: `oracle` holds the SSIM of its pictures of planted captions with the nearest
    training picture, at whatever guidance.
    """
    highest = max(float(s.max()) for s in oracle)
    return round(STEP * math.ceil(highest / STEP - 1e-9), 2)


def largest(shares: Mapping[float, Mapping[str, float]]) -> float:
    """`shares`: guidance -> group of many copies -> share of its pictures that come back. The largest guidance at which that is ENOUGH of every group; where
    there is none, that of the highest mean, and of equal ones the largest.
    """
    enough = [g for g, some in shares.items() if min(some.values()) >= ENOUGH]
    return max(enough) if enough else max(shares, key=lambda g: (np.mean(list(shares[g].values())), g))


def guidance(shares: Mapping[float, Mapping[str, float]], near: Mapping[float, float]) -> float:
    """The default: `largest`, unless that is the end of the guidances tried, where the rule bounds nothing. Then the largest at which `near`, the mean SSIM of
    pictures of many copies with their own, is within CLOSE of its best.
    """
    found = largest(shares)
    if found < max(shares):
        return found
    return max(g for g, value in near.items() if value >= max(near.values()) - CLOSE)
