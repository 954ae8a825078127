"""How faithfully an answer depends on what was stored, row by row."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lab.events import Progress
from lab.recall._cells import Asked
from lab.recall._material import Stock
from lab.recall._policies import Reader
from lab.recall._settings import EVICTING, FULL

T = TypeVar("T")
PATIENCE = 0.1  # seconds without a word
TOKENS = {"cpu": 6e8, "other": 1e11}  # weights times tokens that are read at once


@dataclass(frozen=True)
class Answers:
    """Of every row. `cued`: Jensen-Shannon divergence of the next token after the cue, the context as it is against the swapped one, in bits: 0 where the
    swap changes nothing, 1 where no token is possible under both. `margin`: nats by which the value that the context says beats the other one, the mean
    of both contexts. `recall`: whether it is the likeliest of all values in stock. `uncued`: how far the hidden state at the end of the context moves by
    the swap, as a share of its length; NaN with a policy.
    """

    cued: Float[np.ndarray, " rows"]
    margin: Float[np.ndarray, " rows"]
    recall: Float[np.ndarray, " rows"]
    uncued: Float[np.ndarray, " rows"]


def divergence(one: Float[Tensor, "*rows words"], other: Float[Tensor, "*rows words"]) -> Float[Tensor, "*rows"]:
    """Jensen-Shannon divergence of two rows of logits, in bits, 0 to 1 (Lin 1991, doi 10.1109/18.61115)."""
    p, q = one.double().log_softmax(-1), other.double().log_softmax(-1)
    middle = torch.logaddexp(p, q) - math.log(2)
    parts = [torch.where(x > -math.inf, x.exp() * (x - middle), 0.0).sum(-1) for x in (p, q)]
    return ((parts[0] + parts[1]) / (2 * math.log(2))).clamp(0, 1)


def at_once(reader: Reader, length: int) -> int:
    """Rows of so many tokens that are read together: a fraction of a second of work. With an evicting policy that is a piece of each."""
    length = min(length, reader.policy.step) if reader.policy.name in EVICTING else length
    weights = sum(p.numel() for p in reader.model.net.parameters())
    return max(1, int(TOKENS.get(reader.model.device.type, TOKENS["other"]) / (weights * length)))


def answered(reader: Reader, asked: Asked, stock: Stock) -> Iterator[Progress | Answers]:
    """Reads every row and its swapped one; yields Progress in rows, then the answers."""
    first = torch.tensor(stock.answers, device=asked.context.device)
    rows, parts = len(asked.context), []
    size = at_once(reader, asked.context.shape[1] + asked.question.shape[1])
    for i in range(0, rows, size):
        mine = slice(i, i + size)
        said, moved = yield from waited(said_both(reader, asked, mine), i, rows)
        parts.append(compared(said, moved, first, asked.answer[mine], asked.other[mine]))
        yield Progress(min(i + size, rows), rows)
    yield Answers(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Answers)))


def waited(steps: Generator[None, None, T], done: int, total: int, note: str = "") -> Generator[Progress, None, T]:
    """Yields Progress now and then while the steps go on, and returns what they return."""
    since = time.monotonic()
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value
        if time.monotonic() - since > PATIENCE:
            since = time.monotonic()
            yield Progress(done, total, note)


def said_both(reader: Reader, asked: Asked, mine: slice) -> Generator[None, None, tuple[tuple[Tensor, ...], tuple[Tensor | None, ...]]]:
    """What is said, and the state at the end of the context, of both contexts: read together where they are read piece by piece."""
    pair, question = (asked.context[mine], asked.swapped[mine]), asked.question[mine]
    if reader.policy.name in EVICTING:
        logits, _ = yield from said_and_state(reader, torch.cat(pair), torch.cat([question, question]))
        return logits.tensor_split(2), (None, None)
    first = yield from said_and_state(reader, pair[0], question)
    yield
    second = yield from said_and_state(reader, pair[1], question)
    return (first[0], second[0]), (first[1], second[1])


def said_and_state(reader: Reader, context: Tensor, question: Tensor) -> Generator[None, None, tuple[Tensor, Tensor | None]]:
    """Logits after the question, (rows, words), and the last hidden state at the end of the context, (rows, width)."""
    if reader.policy.name != FULL:
        logits = yield from reader.asking(context, question)
        return logits[:, 0], None
    logits, states = reader.states(torch.cat([context, question], 1))
    return logits[:, 0], states[-1][:, context.shape[1] - 1].float()


def compared(said: tuple[Tensor, ...], moved: tuple[Tensor | None, ...], first: Tensor, answer: Tensor, other: Tensor) -> Answers:
    one, two = (x[:, first].double() for x in said)
    rows = torch.arange(len(answer))
    margin = (one[rows, answer] - one[rows, other] + two[rows, other] - two[rows, answer]) / 2
    a, b = moved
    uncued = torch.full_like(margin, math.nan) if a is None or b is None else 2 * (a - b).norm(dim=-1) / (a.norm(dim=-1) + b.norm(dim=-1)).clamp(min=1e-12)
    recall = (one.argmax(-1) == answer).double()
    return Answers(*(x.double().cpu().numpy() for x in (divergence(*said), margin, recall, uncued)))
