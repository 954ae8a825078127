"""Texts compared word by word."""

from __future__ import annotations

import re
from collections.abc import Sequence


def words(text: str) -> list[str]:
    """Runs of letters and digits, in small letters."""
    return re.findall(r"\w+", text.lower())


def rouge_l(said: str, truth: str) -> float:
    """F-measure of the longest common subsequence of words, 0 to 1; 1 where both say the same, 0 where nothing is shared.

    Source: Lin 2004, ACL W04-1013. With precision P = LCS / words said and recall R = LCS / words of the truth: 2PR / (P + R).
    """
    a, b = words(said), words(truth)
    return 2 * common(a, b) / (len(a) + len(b)) if a and b else float(a == b)


def common(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence."""
    before = [0] * (len(b) + 1)
    for x in a:
        now = [0]
        for j, y in enumerate(b):
            now.append(before[j] + 1 if x == y else max(before[j + 1], now[j]))
        before = now
    return before[-1]


def says(said: str, answer: str) -> bool:
    """Whether the words of `answer` stand in `said`, one after the other."""
    a, b = words(said), words(answer)
    return bool(b) and any(a[i : i + len(b)] == b for i in range(len(a) - len(b) + 1))
