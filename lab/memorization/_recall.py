"""Whether a model gives an answer, token by token, and how well it predicts a text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from models.model import Model

BATCH = 64


def recalls(model: Model, prompts: Sequence[str], answers: Sequence[str]) -> Bool[np.ndarray, " items"]:
    """Whether greedy decoding of each prompt begins with all tokens of its answer. Higher is more memorized."""
    first = [model.tokenizer(p)["input_ids"] for p in prompts]
    whole = [model.tokenizer(f"{p} {a}")["input_ids"] for p, a in zip(prompts, answers, strict=True)]
    return recites(model, whole, [len(f) for f in first])


@torch.no_grad()
def recites(model: Model, rows: Sequence[Sequence[int]], starts: Sequence[int]) -> Bool[np.ndarray, " items"]:
    """Whether greedy decoding from the first `starts[i]` tokens of row i gives the rest of the row, exactly.

    One teacher-forced pass decides it: greedy decoding follows a row exactly where every token of it is the likeliest one.
    """
    found = np.zeros(len(rows), bool)
    for index, ids, mask in batches(rows):
        best = model.net(input_ids=ids, attention_mask=mask).logits[:, :-1].argmax(-1)
        for i, right, row_mask in zip(index, (best == ids[:, 1:]), mask, strict=True):
            found[i] = bool(right[starts[i] - 1 : int(row_mask.sum()) - 1].all())
    return found


@torch.no_grad()
def nll(model: Model, rows: Sequence[Sequence[int]]) -> list[Float[np.ndarray, " tokens"]]:
    """Negative log-likelihood in nats of every token but the first, row by row. Lower is better predicted."""
    found: dict[int, np.ndarray] = {}
    for index, ids, mask in batches(rows):
        logits = model.net(input_ids=ids, attention_mask=mask).logits[:, :-1].float()
        loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
        found |= {i: row[: int(m.sum()) - 1].cpu().numpy() for i, row, m in zip(index, loss, mask, strict=True)}
    return [found[i] for i in range(len(rows))]


def batches(rows: Sequence[Sequence[int]]) -> Iterator[tuple[list[int], Tensor, Tensor]]:
    """(indices, ids, mask) of rows of like length together, padded on the right."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    for start in range(0, len(order), BATCH):
        index = order[start : start + BATCH]
        width = len(rows[index[-1]])
        ids = torch.tensor([[*rows[i], *[0] * (width - len(rows[i]))] for i in index])
        yield index, ids, torch.tensor([[1] * len(rows[i]) + [0] * (width - len(rows[i])) for i in index])
