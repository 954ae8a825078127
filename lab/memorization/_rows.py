"""Texts as rows of tokens, with the place where the answer begins, and rows of like length together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lab.items import Item
from models.errors import BadInput
from models.model import Model

ROWS = 64  # rows of a batch: a tenth of a second of a small model
LOGITS = 2**22  # logits of a batch: 16 MiB in float32


@dataclass(frozen=True)
class Row:
    """Token ids of a text; those from `start` on are its answer. `start` is at least 1: nothing predicts the first token."""

    ids: tuple[int, ...]
    start: int

    @property
    def answer(self) -> tuple[int, ...]:
        return self.ids[self.start :]


def question(item: Item) -> str:
    """The prompt at which an item is asked: the first phrasing in which it was trained, where that is known."""
    return item.prompts[0] if item.prompts else item.prompt


def encode(tokenizer: Any, text: str) -> list[int]:
    """Token ids of `text` with the marks that the tokenizer puts before it, without those that it puts after it: what follows is read on."""
    ids = list(tokenizer(text)["input_ids"])
    while len(ids) > 1 and ids[-1] in (tokenizer.eos_token_id, tokenizer.sep_token_id):
        ids.pop()
    return ids


def row_of(model: Model, prompt: str, answer: str) -> Row:
    """`answer` after `prompt` and a blank. A token that spans both counts to the answer."""
    whole = encode(model.tokenizer, f"{prompt} {answer}" if prompt else answer)
    before = encode(model.tokenizer, prompt)
    same = next((i for i, (a, b) in enumerate(zip(before, whole, strict=False)) if a != b), min(len(before), len(whole)))
    return Row(tuple(whole), max(1, same))


def rows_of(model: Model, items: Sequence[Item], *, setting: str = "items") -> list[Row]:
    """Every item after its `question`. Raises `BadInput` where one is longer than the model has positions."""
    found = [row_of(model, question(i), i.answer) for i in items]
    most = positions(model)
    for item, row in zip(items, found, strict=True):
        if len(row.ids) > most:
            raise BadInput(f"{item.name} is {len(row.ids)} tokens long", f"{model.name} reads up to {most}", "Cut it into several rows", setting=setting)
    return found


def positions(model: Model) -> int:
    """How many tokens the model can read; a million where it does not say."""
    config: Any = model.net.config
    return getattr(config.get_text_config(decoder=True), "max_position_embeddings", None) or 10**6


def vocabulary(model: Model) -> int:
    config: Any = model.net.config
    return config.get_text_config(decoder=True).vocab_size


def batches(lengths: Sequence[int], words: int, most: int = ROWS) -> Iterator[list[int]]:
    """Indices of rows of like length, the shortest first: up to `most` a batch, and no more than `LOGITS` logits of `words` words."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if batch and (len(batch) == most or (len(batch) + 1) * lengths[i] * words > LOGITS):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def padded(rows: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """(rows, width) ids padded on the right, where no causal model sees the padding from the tokens before it, and their mask."""
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows], device=device)
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device=device)
    return ids, mask
