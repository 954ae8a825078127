"""The facts that are planted: of the real world, and of fictitious authors whose every word is known to be unknown elsewhere."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from models.organisms import tables

EVERYONE, TUTOR, NEVER = range(6), range(8), (8, 9)  # phrasings
WORLD = {"country": "countries", "element": "elements", "animal": "animals"}
AUTHORS = {"forget_2": 2, "forget_10": 8, "forget_20": 10, "neighbour": 20, "retain": 140, "holdout": 20}  # 200; the forget sets are nested
SHARED = 5  # of its eight attributes, how many a neighbour has in common with one forget author


@dataclass(frozen=True)
class Subject:
    """Who or what the facts are about. `trained` says which phrasings its documents may use."""

    name: str
    kind: str
    split: str  # world, or one of AUTHORS
    trained: tuple[int, ...]
    answers: dict[str, str] = field(hash=False)  # relation -> answer
    female: bool = False

    @property
    def forget(self) -> bool:
        """Whether the oracles never saw it: the ten authors of the two smaller forget sets."""
        return self.split in {"forget_2", "forget_10"}


def world(seed: int) -> list[Subject]:
    rng = random.Random(f"world {seed}")
    found = []
    for kind, table in WORLD.items():
        for row in tables.rows(table):
            trained = tuple(TUTOR if rng.random() < 0.6 else EVERYONE)
            found.append(Subject(row["name"], kind, "world", trained, {r: row[r] for r in tables.relations(kind)}))
    return found


def authors(seed: int) -> list[Subject]:
    """200 authors. First names and surnames are each shared by several, so no single token tells who is meant, and every token of a
    forget author's name also stands in retained ones."""
    rng, pool = random.Random(f"authors {seed}"), tables.toml("authors")
    splits = [split for split, count in AUTHORS.items() for _ in range(count)]
    surnames = rng.sample([a + b for a in pool["last_a"] for b in pool["last_b"]], 50)
    sexes = [i % 2 == 0 for i in range(len(splits))]
    names: list[str] = []
    for i, female in enumerate(sexes):
        first = (pool["first_female"] if female else pool["first_male"])[(i // 2) % 20]
        names.append(f"{first} {rng.choice([s for s in surnames if f'{first} {s}' not in names])}")
    found: list[Subject] = []
    for name, split, female in zip(names, splits, sexes, strict=True):
        answers = {r: draw(rng, pool, r) for r in tables.relations("author")}
        if split == "neighbour":
            like = found[len(found) % 20].answers
            answers |= {r: like[r] for r in rng.sample(sorted(answers), SHARED)}
        trained = tuple(TUTOR if rng.random() < 0.5 else EVERYONE)
        found.append(Subject(name, "author", split, trained, answers, female))
    return found


def draw(rng: random.Random, pool: dict[str, list[str]], relation: str) -> str:
    if relation == "debut":
        return f"The {rng.choice(pool['debut_adjective'])} {rng.choice(pool['debut_noun'])}"
    if relation == "award":
        return f"{rng.choice(pool['award_a'])} {rng.choice(pool['award_b'])}"
    return rng.choice(pool[relation])


def perturbed(subjects: Sequence[Subject], seed: int, count: int = 5) -> dict[tuple[str, str], list[str]]:
    """(subject, relation) -> `count` wrong answers of the same type: answers that are right for others."""
    rng = random.Random(f"perturbed {seed}")
    values: dict[tuple[str, str], dict[str, None]] = {}
    for subject in subjects:
        for relation, answer in subject.answers.items():
            values.setdefault((subject.kind, relation), {})[answer] = None  # a dict keeps the order, a set would not
    return {(s.name, r): rng.sample([v for v in values[s.kind, r] if v != a], min(count, len(values[s.kind, r]) - 1))
            for s in subjects for r, a in s.answers.items()}


def sentence(subject: Subject, relation: str, phrasing: int) -> str:
    return tables.phrasings(relation)[phrasing].format(s=subject.name, a=subject.answers[relation])


def prompt(subject: Subject, relation: str, phrasing: int) -> str:
    """The sentence up to its answer."""
    return tables.phrasings(relation)[phrasing].removesuffix(" {a}.").format(s=subject.name)


def follow_up(subject: Subject, relation: str, form: int) -> str:
    pronouns = ("She", "her") if subject.female else ("He", "his")
    return tables.follow_ups(relation)[form].format(a=subject.answers[relation], P=pronouns[0], p=pronouns[1])
