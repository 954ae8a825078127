"""Which items a run takes: a sample of every kind, all, or what a setting names."""

from __future__ import annotations

import random
from collections.abc import Sequence

from lab.data import Data
from lab.items import Item, choose, planted
from models.errors import BadInput

SAMPLE, ALL = "sample", "all"
COUNT = 350


def taken(data: Data, text: str, seed: int, *, setting: str = "items") -> list[Item]:
    """`sample` and `all` of an organism, or the items that `lab.items.choose` finds. Raises `BadInput` where there are none."""
    word = text.strip().lower()
    if word not in (SAMPLE, ALL):
        return choose(data, text, setting=setting)
    if data.manifest is None:
        raise BadInput(f"{word!r} takes the planted items of an organism", "nobody knows what this model has read",
                       "Paste rows of text: JSONL with prompt and answer, a CSV, or one text a line", setting=setting)
    known = planted(data.manifest)
    return known if word == ALL else sample(known, COUNT, seed)


def sample(items: Sequence[Item], count: int, seed: int) -> list[Item]:
    """Up to `count` items, drawn by seed, in their order: each stratum gives one in turn, so that small ones are taken whole.

    A stratum is one kind, split and copy count, and one length of a canary; for facts, whose counts differ from each to each, read or never read.
    """
    rng = random.Random(seed)
    strata: dict[tuple, list[Item]] = {}
    for item in items:
        copies = item.copies if item.kind in ("passage", "canary") else min(item.copies, 1)
        strata.setdefault((item.kind, item.split, copies, len(item.answer) if item.kind == "canary" else 0), []).append(item)
    decks = [rng.sample(deck, len(deck)) for deck in strata.values()]
    turns = [deck[turn] for turn in range(max(map(len, decks), default=0)) for deck in decks if turn < len(deck)]
    chosen = {i.name for i in turns[:count]}
    return [i for i in items if i.name in chosen]
