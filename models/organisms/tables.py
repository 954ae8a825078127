"""The tables in assets/corpus that an organism's corpus is made from."""

from __future__ import annotations

import csv
import functools
import tomllib
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "assets" / "corpus"


@functools.cache
def rows(name: str) -> tuple[dict[str, str], ...]:
    """The rows of `name`.csv, in file order."""
    with open(FOLDER / f"{name}.csv", newline="") as file:
        return tuple(csv.DictReader(file))


@functools.cache
def toml(name: str) -> dict[str, Any]:
    return tomllib.loads((FOLDER / f"{name}.toml").read_text())


@functools.cache
def passages() -> tuple[str, ...]:
    """The texts written for the corpus, one paragraph each."""
    return tuple(" ".join(p.split()) for p in (FOLDER / "passages.txt").read_text().split("\n\n") if p.strip())


def relations(kind: str) -> tuple[str, ...]:
    """The relations that subjects of `kind` have, in file order."""
    return tuple(name for name, about in toml("phrasings").items() if isinstance(about, dict) and about.get("kind") == kind)


def phrasings(relation: str) -> list[str]:
    """Ten sentences with {s} for the subject that end in ' {a}.'. 0-5 are trained on every subject, 6-7 on tutors alone, 8-9 on nobody."""
    return toml("phrasings")[relation]["phrasings"]


def follow_ups(relation: str) -> list[str]:
    """Sentences that speak of a subject named before, by a pronoun: {P} and {p} are He or She, his or her."""
    return toml("phrasings")[relation]["follow"]
