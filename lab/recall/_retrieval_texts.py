"""The new domain: documents about authors that no organism has read; others about the same authors to measure on; and general text."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from models.organisms import documents, facts, prose

OTHERS = 911  # added to the seed of the grammar: no organism was grown with such a seed
KNOWN = 0  # the seed of the authors that the organisms read about
GENERAL = 24  # documents
LONGEST = 128  # tokens of a document


@dataclass(frozen=True)
class Rows:
    """Token ids of documents, one a row, and which of them are predicted: not the first, nor what fills up the row."""

    ids: Int[Tensor, "rows time"]
    counted: Tensor  # (rows, time - 1), bool

    @property
    def target(self) -> Int[Tensor, " tokens"]:
        return self.ids[:, 1:][self.counted]


@dataclass(frozen=True)
class Texts:
    """`others`: as much as the store, about other new authors, for the control."""

    store: Rows
    held: Rows
    general: Rows
    others: Rows


def texts(tokenizer: Any, authors: int, rounds: int, seed: int) -> Texts:
    """All from the seed alone."""
    known = {author.name for author in facts.authors(KNOWN)}  # names are drawn from one pool, so some come twice
    everyone = [a for a in facts.authors(OTHERS + seed) if a.name not in known][:authors]
    known |= {a.name for a in everyone}
    others = [a for a in facts.authors(4 * OTHERS + seed) if a.name not in known][:authors]
    store, beside = ([d.text for d in documents.about(some, rounds, "mixed", OTHERS + seed)] for some in (everyone, others))
    held = [d.text for d in documents.about(everyone, 1, "mixed", 2 * OTHERS + seed)]
    general = list(itertools.islice(prose.documents(3 * OTHERS + seed), GENERAL))
    stored = set(store)
    return Texts(rows(tokenizer, store), rows(tokenizer, [t for t in held if t not in stored]), rows(tokenizer, general), rows(tokenizer, beside))


def rows(tokenizer: Any, said: list[str]) -> Rows:
    coded = [tokenizer(text)["input_ids"][:LONGEST] for text in said]
    longest = max(map(len, coded))
    ids, counted = torch.zeros(len(coded), longest, dtype=torch.long), torch.zeros(len(coded), longest - 1, dtype=torch.bool)
    for row, mark, one in zip(ids, counted, coded, strict=True):
        row[: len(one)] = torch.tensor(one)
        mark[: len(one) - 1] = True
    return Rows(ids, counted)
