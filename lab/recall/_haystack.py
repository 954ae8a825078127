"""What stands between a statement and its question: general text that says nothing about it, another stretch for every row."""

from __future__ import annotations

import random
from collections.abc import Iterator

from lab.attention._head_texts import words
from lab.recall._material import Stock, following_all
from lab.recall._settings import TOKENS
from models.errors import BadInput
from models.model import Model
from models.organisms import prose

TRIED = 2000  # sentences in a row that all hold a planted word: then the stock has the whole language


def haystack(model: Model, stock: Stock, name: str) -> Iterator[int]:
    """Endless token ids; the same name gives the same ones. None of them is a planted answer.

    For words it is the organisms' general text, sentence by sentence without those that hold an answer; for random tokens, random tokens.
    """
    if stock.kind == TOKENS:
        planted = stock.planted | {i for cue in stock.cues for i in cue}
        known, rng = [i for i in words(model) if i not in planted], random.Random(f"haystack {name}")
        while True:
            yield rng.choice(known)
    tried = 0
    for document in prose.documents(random.Random(f"haystack {name}").getrandbits(32)):
        sentences = [f"{s.removesuffix('.')}." for s in document.split(". ")]
        for sentence, ids in zip(sentences, following_all(model.tokenizer, sentences), strict=True):
            tried += 1
            if not stock.planted.intersection(ids) and not any(name and name in sentence for name in stock.names):
                yield from ids
                tried = 0
        if tried > TRIED:
            raise BadInput("there is no haystack", "every sentence holds a planted word", "Choose tokens as the material", setting="material")


def general(model: Model, name: str) -> Iterator[int]:
    """Endless token ids of the organisms' general text, whole, document after document; the same name gives the same ones."""
    for document in prose.documents(random.Random(f"general {name}").getrandbits(32)):
        yield from following_all(model.tokenizer, [document])[0]
