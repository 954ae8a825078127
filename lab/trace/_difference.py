"""Two maps subtracted: before and after an edit, two models, two facts."""

from __future__ import annotations

import numpy as np

from lab.events import Grid, TraceMap
from models.errors import BadInput


def difference(a: TraceMap, b: TraceMap) -> Grid:
    """b - a, cell by cell; higher: the state brings back more in `b`. The standard error is that of the difference of two independent means.

    Tokens are matched by their place before, in and after the subject: those of a longer subject that the other has not, and words that
    stand in one prompt alone, have no cell. Layers are matched from the first on where both models are as deep, else by their share of the
    depth. Raises `BadInput` where the maps show different quantities.
    """
    for name in ("kind", "score"):
        if getattr(a, name) != getattr(b, name):
            raise BadInput(f"one map shows {name} {getattr(a, name)!r}, the other {getattr(b, name)!r}", "only like can be subtracted",
                           f"Run both with the same {name}")
    rows = [(i, j) for part_a, part_b in zip(parts(a), parts(b), strict=True) for i, j in matched(part_a, part_b)]
    columns = [(i, round(i * (len(b.layers) - 1) / max(1, len(a.layers) - 1))) for i in range(len(a.layers))]
    ia, ib = np.array(rows).T
    ja, jb = np.array(columns).T
    one, two = np.ix_(ia, ja), np.ix_(ib, jb)
    names = tuple(label(a.tokens[i], b.tokens[j], a.subject[0] <= i < a.subject[1]) for i, j in rows)
    return Grid("B - A", names, tuple(map(str, a.layers)), "token (A / B)", f"{a.kind}, layer", b.effect[two] - a.effect[one],
                np.hypot(a.effect_se[one], b.effect_se[two]), f"effect of B less effect of A ({a.score})",
                "above zero: restoring this brings back more in B; below: more in A", facts=(about("A", a), about("B", b)), diverging=True)


def parts(event: TraceMap) -> tuple[range, range, range]:
    begin, end = event.subject
    return range(begin), range(begin, end), range(end, len(event.tokens))


def matched(one: range, two: range) -> list[tuple[int, int]]:
    """Pairs from both ends inwards: the first with the first, the last with the last; of unequal ranges the middle of the longer is left out."""
    count = min(len(one), len(two))
    tail = (count + 1) // 2  # what comes last matters most: the last token of a subject gathers it, the last of the prompt speaks
    head = count - tail
    return [(one[i], two[i]) for i in range(head)] + [(one[len(one) - tail + i], two[len(two) - tail + i]) for i in range(tail)]


def label(a: str, b: str, subject: bool) -> str:
    a, b = a.strip() or "␣", b.strip() or "␣"
    return (a if a == b else f"{a} / {b}") + (" *" if subject else "")


def about(name: str, event: TraceMap) -> str:
    return f"{name}: {event.prompt} → {event.answer}, {event.score} {event.clean:.3f} undisturbed, {event.corrupted:.3f} corrupted"
