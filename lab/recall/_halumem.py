"""Scores of a memory, operation by operation, against the known truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from lab.recall._talk import RELATIONS, Key, Turn

CORRECT, CONFLICT, HALLUCINATED, OMITTED = "correct", "conflict", "hallucination", "omission"


@dataclass
class Scores:
    """Filled turn by turn. `taken`: of every point that was said, 2 (right), 1 (right thing, wrong value) or 0, with its importance. `noted`: the same of
    every point that was taken down. `resisted`: of every supposition, whether nothing was taken down. `updates`, `answers`: one word each; `stale`: of the
    hallucinated answers, those that were true once; `ages`: turns since the right value was said, -1 where none ever was."""

    taken: list[tuple[int, int]] = field(default_factory=list)
    noted: list[int] = field(default_factory=list)
    resisted: list[bool] = field(default_factory=list)
    updates: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    stale: int = 0
    ages: list[int] = field(default_factory=list)

    def said(self, turn: Turn, points: Sequence[tuple[Key, str]]) -> None:
        """After a statement or a change: what was taken down."""
        grades = [grade(turn, p) for p in points]
        self.taken.append((max(grades, default=0), RELATIONS[turn.key[1]].weight))
        self.noted += grades

    def heard(self, points: Sequence[tuple[Key, str]]) -> None:
        """After chit-chat or a question, from which nothing should be taken down."""
        self.noted += [0] * len(points)

    def supposed(self, points: Sequence[tuple[Key, str]]) -> None:
        self.resisted.append(not points)
        self.heard(points)

    def changed(self, turn: Turn, held: set[str]) -> None:
        """After a change: the values that are held of the thing."""
        self.updates.append(changed(turn, held))

    def answered(self, turn: Turn, said: str, now: int) -> None:
        self.answers.append(answered(turn, said))
        self.stale += self.answers[-1] == HALLUCINATED and said in turn.former
        self.ages.append(now - turn.since if turn.since >= 0 else -1)

    def figures(self) -> dict[str, float]:
        """All scores, each 0 to 1, NaN where nothing was asked."""
        weights = sum(w for _, w in self.taken)
        recall = mean([g == 2 for g, _ in self.taken])
        accuracy = mean([g / 2 for g in self.noted])
        both = {"extraction: recall": recall, "extraction: weighted recall": sum(w for g, w in self.taken if g == 2) / weights if weights else np.nan,
                "extraction: accuracy": accuracy, "extraction: F1": harmonic(recall, accuracy), "extraction: resistance": mean(self.resisted)}
        both |= {f"update: {w}": mean([u == w for u in self.updates]) for w in (CORRECT, CONFLICT, HALLUCINATED, OMITTED)}
        both |= {f"answers: {w}": mean([a == w for a in self.answers]) for w in (CORRECT, HALLUCINATED, OMITTED)}
        return both | {"answers: stale": self.stale / len(self.answers) if self.answers else np.nan}


def grade(turn: Turn, point: tuple[Key, str]) -> int:
    """2 where the point is what was said, 1 where the thing is right and its value wrong, else 0."""
    key, value = point
    return 0 if key != turn.key else 2 if value == turn.value else 1


def changed(turn: Turn, held: set[str]) -> str:
    if held == {turn.value}:
        return CORRECT
    if turn.value in held:
        return CONFLICT
    return HALLUCINATED if held - set(turn.former) else OMITTED


def answered(turn: Turn, said: str) -> str:
    """Of a question for what nobody said, silence is the right answer."""
    return CORRECT if said == turn.value else HALLUCINATED if said else OMITTED


def mean(values: Sequence[float | bool]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def harmonic(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b > 0 else 0.0 if a + b == 0 else float("nan")
