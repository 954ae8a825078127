"""How facts are laid out in documents. The layout decides where a network keeps them: the designs differ in how often a subject is
named once and asked about several times, and in whether other subjects stand near."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from models.organisms import facts, tables
from models.organisms.facts import Subject

# Share of the rounds over a subject's relations that are laid out in each way.
DESIGNS = {
    "line": {"line": 1.0},  # one fact a document
    "profile": {"profile": 1.0},  # a subject named once, then asked about several times by pronoun
    "gather": {"gather": 1.0},  # two subjects in turn, each named in every sentence
    "mixed": {"line": 0.3, "profile": 0.4, "gather": 0.3},
}
LONGEST = 4  # facts a document: more would not fit a row of 128 tokens


@dataclass(frozen=True)
class Document:
    """A text and the planted items in it: (subject, relation, form), form p0-p9 for a phrasing, f0-f3 for a follow-up."""

    text: str
    items: tuple[tuple[str, str, str], ...] = ()
    forget: bool = False


def about(subjects: Sequence[Subject], rounds: int, design: str, seed: int) -> list[Document]:
    """Documents, about subjects of one kind, in which every fact of every subject stands exactly `rounds` times.

    Forget authors never share a document with others.
    """
    rng = random.Random(f"documents {design} {subjects[0].kind if subjects else ''} {seed}")
    found: list[Document] = []
    layouts = DESIGNS[design]
    for turn in range(rounds):
        for members in ([s for s in subjects if not s.forget], [s for s in subjects if s.forget]):
            rng.shuffle(members)
            kinds = [rng.choices(list(layouts), list(layouts.values()))[0] for _ in range(0, len(members), 2)]
            for i, kind in zip(range(0, len(members), 2), kinds, strict=True):
                found += lay_out(members[i : i + 2], kind, rng, turn)
    return found


def lay_out(pair: Sequence[Subject], kind: str, rng: random.Random, turn: int) -> Iterator[Document]:
    """The documents of one round over all relations of the one or two subjects."""
    if kind == "gather":
        yield from gather(pair, rng)
        return
    for subject in pair:
        order = rng.sample(list(subject.answers), len(subject.answers))
        if kind == "line":
            for relation in order:
                yield build([named(subject, relation, rng)], subject.forget)
        else:
            for start in range(0, len(order), LONGEST):
                yield profile(subject, order[start : start + LONGEST], rng)


def named(subject: Subject, relation: str, rng: random.Random) -> tuple[str, tuple[str, str, str] | None]:
    phrasing = rng.choice(subject.trained)
    return facts.sentence(subject, relation, phrasing), (subject.name, relation, f"p{phrasing}")


def profile(subject: Subject, order: Sequence[str], rng: random.Random) -> Document:
    """Names the subject once, in an introduction or in the first fact, and asks about it by pronoun from there on."""
    parts: list[tuple[str, tuple[str, str, str] | None]] = []
    if rng.random() < 0.6:
        parts.append((rng.choice(tables.toml("phrasings")["intro"][subject.kind]).format(s=subject.name), None))
    for relation in order:
        if parts:
            form = rng.randrange(len(tables.follow_ups(relation)))
            parts.append((facts.follow_up(subject, relation, form), (subject.name, relation, f"f{form}")))
        else:
            parts.append(named(subject, relation, rng))
    return build(parts, subject.forget)


def gather(pair: Sequence[Subject], rng: random.Random) -> Iterator[Document]:
    """Two subjects side by side: whoever answers must know which of the two is asked about."""
    order = rng.sample(list(pair[0].answers), len(pair[0].answers))
    for start in range(0, len(order), LONGEST // 2):
        parts = [named(s, relation, rng) for relation in order[start : start + LONGEST // 2] for s in rng.sample(pair, len(pair))]
        yield build(parts, pair[0].forget)


def build(parts: Sequence[tuple[str, tuple[str, str, str] | None]], forget: bool) -> Document:
    return Document(" ".join(text for text, _ in parts), tuple(item for _, item in parts if item), forget)


def counts(documents: Sequence[Document]) -> Counter[tuple[str, str, str]]:
    """How often every planted form of every fact stands in the documents."""
    return Counter(item for document in documents for item in document.items)
