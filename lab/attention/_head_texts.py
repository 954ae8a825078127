"""What heads are read and ablated on: random tokens repeated once, or questions with their answers."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from lab.data import Data
from lab.items import FACT_KINDS, Item, choose, planted
from lab.memorization._rows import padded, positions, rows_of, vocabulary
from lab.memorization._sample import SAMPLE
from models.errors import BadInput
from models.model import Model

if TYPE_CHECKING:
    from lab.attention.heads import HeadScores


@dataclass(frozen=True)
class Texts:
    """Rows of tokens, padded on the right. `real` are those that are neither padding nor a start token; `counted[:, t]` says whether token t's loss counts."""

    ids: Int[Tensor, "rows tokens"]
    real: Bool[Tensor, "rows tokens"]
    counted: Bool[Tensor, "rows tokens"]
    first: int = 0  # the first token that is no start token, in every row

    @property
    def lengths(self) -> list[int]:
        """One past the last token of each row that counts: what comes after it changes nothing."""
        return [int(row.nonzero()[-1]) + 1 for row in self.counted]

    @property
    def begins(self) -> list[int]:
        """The first token of each row that counts."""
        return [int(row.nonzero()[0]) for row in self.counted]


def words(model: Model) -> list[int]:
    """Ids of the tokens that stand for text: those of the tokenizer that the net knows, without special and added ones."""
    tokenizer: Any = model.tokenizer
    special = {*tokenizer.all_special_ids, *getattr(tokenizer, "added_tokens_decoder", {})}
    return sorted(i for i in set(tokenizer.get_vocab().values()) - special if i < vocabulary(model))


def repeated(model: Model, length: int, count: int, seed: int) -> Texts:
    """`count` rows of `length` random tokens said twice, after the start token where the tokenizer has one. No token twice in a row where they suffice.

    The first token of the second half does not count: nothing before it says that a repetition begins.
    """
    known, start = words(model), model.tokenizer.bos_token_id
    first = 0 if start is None else 1
    if first + 2 * length > positions(model):
        raise BadInput(f"{length} tokens said twice are too long", f"{model.name} reads up to {positions(model)}", "Shorten the sequences", setting="length")
    if not known:
        raise BadInput("there is no token to draw", "the tokenizer holds special tokens alone", "Choose another model", setting="model")
    generator = torch.Generator().manual_seed(seed)
    half = torch.stack([torch.tensor(known)[torch.randperm(len(known), generator=generator)[:length] if length <= len(known) else
                                            torch.randint(len(known), (length,), generator=generator)] for _ in range(count)])
    ids = torch.cat([torch.full((count, first), start or 0), half, half], 1)
    counted, real = torch.zeros_like(ids, dtype=torch.bool), torch.ones_like(ids, dtype=torch.bool)
    counted[:, first + length + 1 :], real[:, :first] = True, False
    return Texts(ids.to(model.device), real, counted, first)


def answers(settings: HeadScores, model: Model, data: Data) -> Texts:
    """Up to `most` items that the setting `items` names, drawn by seed, the shortest first; what counts is the answer of each."""
    items = facts_or_named(data, settings.items)
    if len(items) > settings.most:
        items = random.Random(settings.seed).sample(items, settings.most)
    rows = sorted((row for row in rows_of(model, items) if row.answer), key=lambda r: len(r.ids))
    if not rows:
        raise BadInput("no row has an answer", "an answer of one token cannot be the first of its text", "Give longer texts", setting="items")
    ids, mask = padded([r.ids for r in rows], model.device)
    place, start = torch.arange(ids.shape[1]), model.tokenizer.bos_token_id
    counted = torch.stack([(place >= r.start) & (place < len(r.ids)) for r in rows])
    real = mask.bool().cpu()
    return Texts(ids, real if start is None else real & (ids.cpu() != start), counted)


def facts_or_named(data: Data, text: str) -> list[Item]:
    """The facts that an organism has read, for `sample`; else what `lab.items.choose` finds."""
    if text.strip().lower() != SAMPLE:
        return choose(data, text, setting="items")
    if data.manifest is None:
        raise BadInput("a sample takes the facts of an organism", "nobody knows what this model has read",
                       "Paste rows of text: JSONL with prompt and answer, a CSV, or one text a line", setting="items")
    return [i for i in planted(data.manifest) if i.kind in FACT_KINDS and i.copies > 0]
