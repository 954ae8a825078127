"""Settings that hold several numbers, and figures over repeats."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from models.errors import BadInput

AUTO = "auto"


def numbers(text: str, setting: str, low: int = 0) -> list[int]:
    """Whole numbers with commas between, each once, in order. Raises `BadInput` on anything else, or on one below `low`."""
    try:
        found = sorted({int(part) for part in text.replace(";", ",").split(",") if part.strip()})
    except ValueError:
        raise BadInput(f"{text!r} are no whole numbers", cure="Write numbers with commas between, such as 8, 32, 128", setting=setting) from None
    if not found or found[0] < low:
        raise BadInput(f"{text!r} holds {'no number' if not found else found[0]}", f"numbers from {low} on are taken", setting=setting)
    return found


def doubling(first: int, last: int) -> list[int]:
    """first, 2 * first, ... below `last`, then `last`; those that come within a quarter of it are left out."""
    found = []
    while first <= 0.75 * last:
        found.append(first)
        first *= 2
    return [*found, last]


def mean_and_error(values: Float[np.ndarray, "repeats ..."]) -> tuple[Float[np.ndarray, ...], Float[np.ndarray, ...]]:
    """Mean over repeats and its standard error, NaN with one repeat."""
    n = len(values)
    error = values.std(0, ddof=1) / n**0.5 if n > 1 else np.full(values.shape[1:], np.nan)
    return np.asarray(values.mean(0)), np.asarray(error)


def spearman(x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray) -> float:
    """Rank correlation over the pairs without NaN; NaN where fewer than three are left, or one of both is the same throughout."""
    from scipy.stats import spearmanr

    a, b = np.asarray(x, float), np.asarray(y, float)
    both = ~(np.isnan(a) | np.isnan(b))
    a, b = a[both], b[both]
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(spearmanr(a, b).statistic)
