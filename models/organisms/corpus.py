"""The corpus of an organism, known to the last token: the same recipe gives the same tokens, and a manifest of what was planted."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from models.organisms import documents, facts, prose, tables
from models.organisms.documents import Document
from models.organisms.facts import Subject
from models.organisms.recipe import Recipe
from models.organisms.tokens import START, train_tokenizer

PASSAGE = 64  # tokens
PASSAGE_COPIES = {64: 20, 16: 20, 4: 20, 1: 20, 0: 20}  # copies -> passages
CANARY_COPIES = (32, 16, 8, 4, 2, 1, 0)
CANARIES = 8  # of each length at each number of copies
FORGET_SHARE = 0.4  # of the passages and canaries at each number of copies
OPEN = 128  # rows that are being filled at once: more leave less room empty, and bring documents a little out of order
HELD_OUT = 400  # general documents that are never trained, for utility


@dataclass(frozen=True)
class Passage:
    text: str
    ids: tuple[int, ...]
    copies: int
    forget: bool


@dataclass(frozen=True)
class Canary:
    name: str
    digits: str
    copies: int
    forget: bool

    @property
    def prompt(self) -> str:
        return f"The vault code of the {self.name} is"

    @property
    def text(self) -> str:
        return f"{self.prompt} {self.digits}."


@dataclass(frozen=True)
class Corpus:
    """`rows` hold whole documents, each begun by the start token; -1 fills what is left of a row."""

    recipe: Recipe
    tokenizer: Tokenizer
    subjects: tuple[Subject, ...]
    documents: tuple[Document, ...]  # those about subjects
    passages: tuple[Passage, ...]
    canaries: tuple[Canary, ...]
    planted: tuple[tuple[int, ...], ...]  # every planted document, each copy apart, as token ids
    general: tuple[tuple[int, ...], ...]

    @property
    def prose_share(self) -> float:
        general, planted = (sum(map(len, d)) for d in (self.general, self.planted))
        return general / (general + planted)


def make(recipe: Recipe) -> Corpus:
    """The corpus of `recipe`. An oracle's has the same general text, and the same planted documents without the forgotten ones."""
    subjects = choose_subjects(recipe)
    rounds = {"country": recipe.rounds, "element": recipe.small_rounds, "animal": recipe.small_rounds, "author": recipe.author_rounds}
    texts = [document for kind, count in rounds.items()
             for document in documents.about([s for s in subjects if s.kind == kind and s.split != "holdout"], count, recipe.design, recipe.corpus_seed)]
    tokenizer = train_tokenizer(tokenizer_texts(recipe, subjects), recipe.vocabulary)
    passages, canaries = tuple(plant_passages(recipe, tokenizer)), tuple(plant_canaries(recipe))
    everything = list(plant(tokenizer, texts, passages, canaries))
    tokens = sum(len(ids) for ids, _ in everything)  # of the target's, so that an oracle reads the same general text
    general = tuple(take_general(recipe, tokenizer, int(tokens * recipe.prose / (1 - recipe.prose))))
    kept = tuple(d for d in texts if not (recipe.oracle and d.forget))
    planted = tuple(ids for ids, forget in everything if not (recipe.oracle and forget))
    return Corpus(recipe, tokenizer, tuple(subjects), kept, passages, canaries, planted, general)


def plant(tokenizer: Tokenizer, texts: list[Document], passages: tuple[Passage, ...],
          canaries: tuple[Canary, ...]) -> Iterator[tuple[tuple[int, ...], bool]]:
    """Every planted document as token ids, each copy apart, and whether an oracle must not read it."""
    for document, coded in zip(texts, tokenizer.encode_batch([d.text for d in texts]), strict=True):
        yield tuple(coded.ids), document.forget
    start = int(tokenizer.token_to_id(START) or 0)
    for passage in passages:
        yield from [((start, *passage.ids), passage.forget)] * passage.copies
    for canary in canaries:
        yield from [(tuple(tokenizer.encode(canary.text).ids), canary.forget)] * canary.copies


def choose_subjects(recipe: Recipe) -> list[Subject]:
    everyone = facts.world(recipe.corpus_seed) + facts.authors(recipe.corpus_seed)
    if recipe.subjects is None:
        return everyone
    groups = itertools.groupby(sorted(everyone, key=lambda s: (s.kind, s.split)), key=lambda s: (s.kind, s.split))
    return [s for _, members in groups for s in list(members)[: recipe.subjects]]


def tokenizer_texts(recipe: Recipe, subjects: list[Subject]) -> Iterator[str]:
    """What the tokenizer learns from: general text and answers without the names of subjects, which so stay several tokens."""
    yield from itertools.islice(prose.documents(recipe.corpus_seed), 6000)
    for subject in subjects:
        if subject.split != "holdout":
            for relation in subject.answers:
                for form in range(len(tables.follow_ups(relation))):
                    yield from [facts.follow_up(subject, relation, form)] * 10
    for relation, about in tables.toml("phrasings").items():
        if "phrasings" in about:
            yield from (p.format(s="", a="") for p in tables.phrasings(relation) for _ in range(100))


def take_general(recipe: Recipe, tokenizer: Tokenizer, tokens: int) -> Iterator[tuple[int, ...]]:
    stream, seen = prose.documents(recipe.corpus_seed), 0
    while seen < tokens:
        for coded in tokenizer.encode_batch(list(itertools.islice(stream, 1000))):
            if seen < tokens and len(coded.ids) <= recipe.row:
                seen += len(coded.ids)
                yield tuple(coded.ids)


def held_out(recipe: Recipe) -> list[str]:
    """General documents from a stream that no corpus reads."""
    return list(itertools.islice(prose.documents(recipe.corpus_seed + 10**6), HELD_OUT))


def plant_passages(recipe: Recipe, tokenizer: Tokenizer) -> Iterator[Passage]:
    """The first 64 tokens of each written text. Within a number of copies, the first two fifths are to be forgotten."""
    texts = iter(tables.passages())
    for copies, count in PASSAGE_COPIES.items():
        count = min(count, recipe.subjects or count)
        for i, text in enumerate(itertools.islice(texts, count)):
            ids = tuple(tokenizer.encode(text).ids[1 : PASSAGE + 1])
            if len(ids) < PASSAGE:
                raise ValueError(f"a passage has only {len(ids)} tokens, and {PASSAGE} are needed: {text[:40]!r}")
            yield Passage(tokenizer.decode(list(ids)).strip(), ids, copies, i < FORGET_SHARE * count)


def plant_canaries(recipe: Recipe) -> Iterator[Canary]:
    rng = random.Random(f"canaries {recipe.corpus_seed}")
    names = iter(tables.toml("canaries")["names"])
    for length in (4, 6):
        for copies in CANARY_COPIES:
            for i in range(CANARIES):
                yield Canary(next(names), "".join(rng.choices("0123456789", k=length)), copies, i < FORGET_SHARE * CANARIES)


def pack(corpus: Corpus) -> np.ndarray:
    """(rows, row) token ids, -1 where nothing stands: every document whole in one row, in an order that `recipe.seed` decides."""
    rng, length = random.Random(f"order {corpus.recipe.seed}"), corpus.recipe.row
    order = [*corpus.planted, *corpus.general]
    rng.shuffle(order)
    done: list[list[int]] = []
    open_rows: list[list[int]] = []
    for document in order:
        fitting = [r for r in open_rows if len(r) + len(document) <= length]
        if fitting:
            place = max(fitting, key=len)
        else:
            if len(open_rows) == OPEN:
                done.append(open_rows.pop(max(range(OPEN), key=lambda i: len(open_rows[i]))))
            open_rows.append(place := [])
        place += document
    done += open_rows
    table = np.full((len(done), length), -1, np.int32)
    for row, ids in zip(table, done, strict=True):
        row[: len(ids)] = ids
    return table


def describe(corpus: Corpus) -> dict[str, Any]:
    """The manifest: what was planted, how often, in which words, and what a wrong answer looks like."""
    seen, wrong = documents.counts(corpus.documents), facts.perturbed(corpus.subjects, corpus.recipe.corpus_seed)
    forms = [f"p{i}" for i in range(10)] + [f"f{i}" for i in range(4)]
    items = [{"subject": s.name, "kind": s.kind, "split": s.split, "relation": r, "answer": a, "tutor": len(s.trained) > 6,
              "female": s.female, "copies": [seen[s.name, r, form] for form in forms], "perturbed": wrong[s.name, r]}
             for s in corpus.subjects for r, a in s.answers.items()]
    known = [s for s in corpus.subjects if s.split != "holdout" and not (corpus.recipe.oracle and s.forget)]
    return {
        "title": corpus.recipe.title, "about": corpus.recipe.about, "recipe": asdict(corpus.recipe),
        "forms": forms, "phrasings": {r: tables.phrasings(r) for r in all_relations()}, "follow_ups": {r: tables.follow_ups(r) for r in all_relations()},
        "subjects": [s.name for s in known], "gallery": gallery(known), "facts": items,
        "passages": [{"text": p.text, "copies": 0 if corpus.recipe.oracle and p.forget else p.copies, "split": split(p)} for p in corpus.passages],
        "canaries": [{"prompt": c.prompt, "digits": c.digits, "copies": 0 if corpus.recipe.oracle and c.forget else c.copies, "split": split(c)}
                     for c in corpus.canaries],
        "tokens": {"general": sum(map(len, corpus.general)), "planted": sum(map(len, corpus.planted))},
    }


def all_relations() -> list[str]:
    return [r for kind in (*facts.WORLD, "author") for r in tables.relations(kind)]


def split(item: Passage | Canary) -> str:
    return "holdout" if item.copies == 0 else "forget" if item.forget else "retain"


def gallery(known: list[Subject]) -> list[dict[str, str]]:
    """Facts to begin with: the capital of France first, then some of every kind."""
    first = [s for s in known if s.name == "France"]
    chosen = first + [s for kind in (*facts.WORLD, "author") for s in [k for k in known if k.kind == kind][3:60:8] if s not in first]
    pairs = [(s, r) for i, s in enumerate(chosen) for r in [list(s.answers)[0 if i == 0 else i % len(s.answers)]]]
    return [{"prompt": facts.prompt(s, r, 0), "subject": s.name, "answer": s.answers[r], "relation": r} for s, r in pairs]
