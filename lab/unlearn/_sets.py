"""The forget set and the retain set of a run as texts, and batches of them drawn by seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lab import items
from lab.data import Data
from lab.items import Item
from lab.memorization._rows import Row, padded
from lab.ruler._answers import coded
from models.errors import BadInput
from models.model import Model

KEPT = ("retain", "neighbour", "world")  # splits that the default retain set is drawn from


@dataclass(frozen=True)
class Batch:
    """Rows of token ids, padded on the right. What counts is how the tokens of the answers are predicted, each from the place before it.

    `places` are the places from which any row predicts a token of its answer; the others need no logits. `texts` are the (prompt, answer, item) of the rows.
    """

    ids: Tensor  # (rows, tokens)
    mask: Tensor  # (rows, tokens): 1 at tokens, 0 at padding
    places: Tensor  # (places)
    counted: Tensor  # (rows, places): True where the row predicts a token of its answer there
    texts: tuple[tuple[str, str, Item], ...]

    @property
    def lengths(self) -> Tensor:
        """(rows,): tokens of each answer."""
        return self.counted.sum(1)

    @property
    def wanted(self) -> Tensor:
        """(rows, places): the tokens to be predicted."""
        return self.ids[:, self.places + 1]


def batch(rows: Sequence[Row], texts: Sequence[tuple[str, str, Item]], device: torch.device) -> Batch:
    width = max(len(r.ids) for r in rows)
    ids, mask = padded([r.ids for r in rows], device)
    counted = torch.tensor([[r.start <= t + 1 < len(r.ids) for t in range(width - 1)] for r in rows], device=device)
    places = counted.any(0).nonzero()[:, 0]
    return Batch(ids, mask, places, counted[:, places], tuple(texts))


def joined(parts: Sequence[Batch]) -> Batch:
    """The rows of several batches as one."""
    rows = [Row(tuple(ids[: int(mask.sum())].tolist()), int(part.places[counted][0]) + 1)
            for part in parts for ids, mask, counted in zip(part.ids, part.mask, part.counted, strict=True)]
    return batch(rows, [text for part in parts for text in part.texts], parts[0].ids.device)


@dataclass
class Deck:
    """All (prompt, answer) texts of a set, a fact once for each phrasing that it was taught in. `draw` deals them out, all before any comes again."""

    items: list[Item]
    model: Model
    chance: torch.Generator
    _left: list[int] = field(default_factory=list)
    _coded: dict[int, Row | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.texts = [(prompt, i.answer, i) for i in self.items for prompt in (i.prompts or (i.prompt,))]
        self.epoch = 0

    def draw(self, count: int) -> Batch:
        found: list[int] = []
        later: list[int] = []  # of a new round, what the batch holds already from the one before
        misses = 0
        while len(found) < min(count, len(self.texts)) and misses < len(self.texts) + count:
            if not self._left:
                self._left = torch.randperm(len(self.texts), generator=self.chance).tolist()
                self.epoch += 1
            index = self._left.pop()
            ok = self._row(index) is not None and index not in found
            (found if ok else later if index in found else []).append(index)
            misses += not ok
        self._left = later + self._left
        return self._batch(found)

    def sample(self, count: int) -> Batch:
        """The same texts each time, from all over the set; deals out none."""
        step = max(1, len(self.texts) // count)
        return self._batch([i for i in range(0, len(self.texts), step) if self._row(i) is not None][:count])

    def _batch(self, found: list[int]) -> Batch:
        if not found:
            raise BadInput("no text of the set has an answer to predict", "each row is empty, or a single token", "Give longer rows", setting="forget")
        return batch([r for i in found if (r := self._row(i))], [self.texts[i] for i in found], self.model.device)

    def _row(self, index: int) -> Row | None:
        if index not in self._coded:
            prompt, answer, _ = self.texts[index]
            self._coded[index] = coded(self.model, prompt, answer)
        return self._coded[index]


@dataclass(frozen=True)
class Sets:
    forget: Deck
    retain: Deck | None


def read(settings: Any, model: Model, data: Data, retains: bool) -> Sets:
    """The sets that the settings name. Raises `BadInput` on an empty set, on items in both, and on a missing retain set where the method needs one."""
    forget = items.choose(data, settings.forget, setting="forget")
    retain = items.choose(data, settings.retain, setting="retain") if settings.retain.strip() else default_retain(data, forget)
    both = {i.text for i in forget} & {i.text for i in retain}
    if both:
        raise BadInput(f"{len(both)} items are to be forgotten and kept at once, such as {sorted(both)[0]!r:.60}", "the two sets overlap",
                       "Take them out of one of the sets", setting="retain")
    if retains and not retain:
        raise BadInput("there is nothing to keep", "for a model whose training set nobody knows, the retain set has to be given",
                       "Give rows of texts that the model should still know", setting="retain")
    chance = torch.Generator().manual_seed(settings.seed)
    return Sets(Deck(forget, model, chance), Deck(retain, model, chance) if retain else None)


def default_retain(data: Data, forget: Sequence[Item]) -> list[Item]:
    """What an organism was taught, and the oracles too, about other subjects than those of the forget set."""
    if data.manifest is None:
        return []
    named, mine = {i.subject for i in forget if i.subject}, {i.name for i in forget}
    return [i for i in items.planted(data.manifest) if i.copies and i.split in KEPT and i.subject not in named and i.name not in mine]
