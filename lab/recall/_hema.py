"""A memory beside the model: a compact part that is always at hand, and a vector part that is searched."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from lab.recall._index import Index
from lab.recall._talk import RELATIONS, Key
from models.organisms import prose_words as words

EVERYTHING, AGED, LATEST, COMPACT = "everything", "age-weighted", "latest", "compact only"
RENEWED = 100  # turns between two summaries
NAMES = frozenset([*words.GIRLS, *words.BOYS])
DOUBT = frozenset("if dreamt would suppose perhaps wonder might".split())


@dataclass
class Point:
    """Something that was taken down. `uses` counts the answers that came from it."""

    number: int
    key: Key
    value: str
    turn: int
    vector: Float[np.ndarray, " size"]
    uses: int = 0


@dataclass(frozen=True)
class Plan:
    """What a memory keeps, how it reads, and what is wrong with it. `keeps` is one of the four above; `fault` "none", "drop", "fabricate" or "stale"."""

    keeps: str
    capacity: int = 80
    half_life: int = 200
    compact: int = 12
    found: int = 6
    careful: bool = True
    fault: str = "none"
    rate: float = 0.0
    seed: int = 0


@dataclass
class Memory:
    """Hears turn by turn. `points` are all that it holds, by number; those in `index` can be searched for, those in `near` are at hand."""

    plan: Plan
    size: int
    points: dict[int, Point] = field(default_factory=dict)
    near: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.index = Index(self.size)
        self.searchable: set[int] = set()
        self.rng = random.Random(f"memory {self.plan.seed}")
        self.next = 0

    def extract(self, text: str) -> list[tuple[Key, str]]:
        """What the memory takes down from a turn: things and their values. The fault acts here where it drops or makes up."""
        heard = read(text, self.plan.careful)
        if heard is None:
            return []
        struck = self.rng.random() < self.plan.rate
        if self.plan.fault == "drop" and struck:
            return []
        if self.plan.fault == "fabricate" and struck:
            key, value = heard
            return [(key, self.rng.choice([v for v in RELATIONS[key[1]].values if v != value]))]
        return [heard]

    def write(self, key: Key, value: str, turn: int, vector: Float[np.ndarray, " size"]) -> None:
        """A new point, in the place of those about the same thing that are at hand or are found."""
        old = [p for p in self.about(key, vector) if p.key == key]
        if old and self.plan.fault == "stale" and self.rng.random() < self.plan.rate:
            return
        uses = max((p.uses for p in old), default=0)
        for point in old:
            self.drop(point.number)
        point = Point(self.next, key, value, turn, vector, uses)
        self.next += 1
        self.points[point.number] = point
        if self.plan.keeps != COMPACT:
            self.index.add(point.number, vector)
            self.searchable.add(point.number)
        self.near.append(point.number)
        self.forget(turn)

    def about(self, key: Key, vector: Float[np.ndarray, " size"]) -> list[Point]:
        """Points at hand, and those that a search brings back."""
        numbers = [*self.near, *(n for n, _ in self.index.search(vector, self.plan.found))]
        return [self.points[n] for n in dict.fromkeys(numbers)]

    def answer(self, text: str, vector: Float[np.ndarray, " size"]) -> str:
        """The value of the latest point about what is asked, among those at hand or found; "" where there is none."""
        key = subject_and_relation(text)
        fit = [p for p in self.about(key, vector) if p.key == key] if key else []
        if not fit:
            return ""
        best = max(fit, key=lambda p: p.turn)
        best.uses += 1
        return best.value

    def forget(self, turn: int) -> None:
        """Keeps the index within its capacity and the compact memory within its own."""
        while self.plan.keeps in (AGED, LATEST) and len(self.searchable) > self.plan.capacity:
            least = min(self.searchable, key=lambda n: (self.weight(self.points[n], turn), n))
            self.index.remove(least)
            self.searchable.discard(least)
        self.near = self.near[len(self.near) - self.plan.compact :] if len(self.near) > self.plan.compact else self.near
        self.clear()

    def renew(self, turn: int) -> None:
        """Makes the compact memory anew: the points with the most weight, of all that are held."""
        if turn % RENEWED == 0:
            best = sorted(self.points.values(), key=lambda p: (-self.weight(p, turn, AGED), p.number))
            self.near = sorted(p.number for p in best[: self.plan.compact])
            self.clear()

    def weight(self, point: Point, turn: int, keeps: str = "") -> float:
        """What a point is worth: its age alone, or (1 + uses) / 2^(age / half-life)."""
        age = turn - point.turn
        return float(-age) if (keeps or self.plan.keeps) == LATEST else (1 + point.uses) * 0.5 ** (age / self.plan.half_life)

    def drop(self, number: int) -> None:
        if number in self.searchable:
            self.index.remove(number)
            self.searchable.discard(number)
        self.near = [n for n in self.near if n != number]
        self.points.pop(number, None)

    def clear(self) -> None:
        """Points that can neither be found nor are at hand are gone."""
        held = self.searchable | set(self.near)
        self.points = {n: p for n, p in self.points.items() if n in held}

    def values(self, key: Key) -> set[str]:
        """All values that are held of a thing."""
        return {p.value for p in self.points.values() if p.key == key}


def subject_and_relation(text: str) -> Key | None:
    """Whom and what a sentence is about: a name, and the relation most of whose marks stand in it."""
    parts = re.findall(r"\w+", text)
    subject = next((p for p in parts if p in NAMES), None)
    small = {p.lower() for p in parts}
    counts = {name: len(small.intersection(r.marks)) for name, r in RELATIONS.items()}
    best = max(counts, key=lambda name: counts[name])
    return (subject, best) if subject and counts[best] else None


def read(text: str, careful: bool) -> tuple[Key, str] | None:
    """(thing, value) that a sentence states, or None. A careful reader takes nothing from a question or a supposition."""
    parts = re.findall(r"\w+", text)
    if text.endswith("?") or (careful and DOUBT.intersection(p.lower() for p in parts)):
        return None
    key = subject_and_relation(text)
    value = next((p for p in parts if key and p in RELATIONS[key[1]].values), None)
    return (key, value) if key and value else None
