"""Maps of many facts averaged by the role of the token, and the layers that the average points at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from lab.events import TraceMap

ROLES = ("first subject token", "middle subject tokens", "last subject token", "first token after", "tokens between", "last token")
SUBJECT = slice(0, 3)  # of the roles


def roles(event: TraceMap) -> Float[np.ndarray, "roles layers"]:
    """Mean effect over the tokens of each role, NaN where the prompt has no such token. A subject of one token is its last."""
    begin, end = event.subject
    last = len(event.tokens) - 1
    places = [[begin] if end - begin > 1 else [], range(begin + 1, end - 1), [end - 1], [end] if end < last else [], range(end + 1, last), [last]]
    empty = np.full(len(event.layers), np.nan)
    return np.stack([event.effect[list(p)].mean(0) if len(p) else empty for p in places])


def average(events: Sequence[TraceMap]) -> tuple[Float[np.ndarray, "roles layers"], Float[np.ndarray, "roles layers"]]:
    """Mean over facts, and its standard error over facts; NaN where no fact (for the error: only one) has the role."""
    table = np.stack([roles(e) for e in events])
    count = (~np.isnan(table)).sum(0)
    total = np.nansum(table, 0)
    mean = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    squares = np.nansum((table - mean) ** 2, 0)
    variance = np.divide(squares, count - 1, out=np.full_like(total, np.nan), where=count > 1)
    return mean, np.sqrt(variance / np.maximum(count, 1))


def points_at(mean: Float[np.ndarray, "roles layers"]) -> tuple[int, int, float]:
    """The layers (first, and one past the last) around the strongest effect at the subject's tokens that keep half of it, and that effect.

    This is where an edit is suggested: causal tracing chooses the layers, as in ROME (Meng et al. 2022) and in SHA256 (SemEval-2025 task 4).
    """
    part = np.nan_to_num(mean[SUBJECT], nan=-np.inf).max(0)
    peak = int(part.argmax())
    first, last = peak, peak
    while first > 0 and part[first - 1] >= part[peak] / 2:
        first -= 1
    while last < len(part) - 1 and part[last + 1] >= part[peak] / 2:
        last += 1
    return first, last + 1, float(part[peak])
