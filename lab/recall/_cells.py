"""Rows of tokens: what is stored, at which distance, among how much else."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from lab.memorization._rows import positions
from lab.recall._haystack import haystack
from lab.recall._material import Stock
from models.errors import BadInput
from models.model import Model

LEAD = 4  # tokens of haystack before the first statement, at least


@dataclass(frozen=True)
class Asked:
    """Rows of one length: `context` is read, `swapped` is the same with another value in the place of the one that is asked for, `question` asks.

    `answer` and `other` are indices of values, of what the context says and of what the swapped one says. `stored[r]` are all values of row r, `answer`
    among them.
    """

    context: Int[Tensor, "rows context"]
    swapped: Int[Tensor, "rows context"]
    question: Int[Tensor, "rows question"]
    answer: Int[Tensor, " rows"]
    other: Int[Tensor, " rows"]
    stored: Int[Tensor, "rows load"]


def start(model: Model) -> list[int]:
    """The token with which a text begins, where the tokenizer has one."""
    return [] if model.tokenizer.bos_token_id is None else [model.tokenizer.bos_token_id]


def needed(model: Model, stock: Stock, lag: int, load: int) -> int:
    """Tokens of a row, its question and the answer's place."""
    return len(start(model)) + LEAD + load * stock.longest + lag + stock.asking


def farthest(model: Model, stock: Stock, load: int = 1, most: int = 10**6) -> int:
    """The largest lag that the model has positions for."""
    return min(positions(model), most) - needed(model, stock, 0, load)


def cell(model: Model, stock: Stock, lag: int, load: int, rows: int, name: str, length: int = 0) -> Asked:
    """`load` statements, of which one is asked for; `lag` tokens lie between the end of that one and the cue. The others stand before it, and after it
    where there is room, among haystack. Another haystack, other keys and other values in every row; the same name gives the same rows. `length` is that of
    a row with its question, 0 takes what is needed.

    Raises `BadInput` where the row is longer than the model has positions, or the stock too small.
    """
    length = length or needed(model, stock, lag, load)
    if lag < 0 or length > positions(model):
        raise BadInput(f"{load} statements and a distance of {lag} make {length} tokens", f"{model.name} reads up to {positions(model)}",
                       f"With so many statements the distance may be up to {farthest(model, stock, load)}", setting="lags")
    if load > min(len(stock.names), len(stock.told) - 1):
        raise BadInput(f"{load} statements are more than can be told apart", f"there are {len(stock.names)} keys and {len(stock.told)} values",
                       "Store fewer things, or choose tokens as the material", setting="loads")
    rng, made = random.Random(f"cell {name} {stock.kind} {lag} {load} {length}"), []
    for row in range(rows):
        hay = haystack(model, stock, f"{name} {lag} {load} {length} {row}")
        keys, values = rng.sample(range(len(stock.names)), load), rng.sample(range(len(stock.told)), load + 1)
        made.append((*laid(model, stock, keys, values, lag, length, hay, rng), stock.cues[keys[0]], values))
    tensors = [torch.tensor(x, device=model.device) for x in zip(*made, strict=True)]
    return Asked(tensors[0], tensors[1], tensors[2], tensors[3][:, 0], tensors[3][:, -1], tensors[3][:, :-1])


def laid(model: Model, stock: Stock, keys: Sequence[int], values: Sequence[int], lag: int, length: int, hay: Iterator[int],
         rng: random.Random) -> tuple[list[int], list[int]]:
    """A context, and the same with the last of `values` told of the first of `keys`."""
    others = [stock.said[k][v] for k, v in zip(keys[1:], values[1:], strict=False)]
    rng.shuffle(others)
    after = fitting(others[: rng.randrange(len(others) + 1)], lag)
    before = others[len(after) :]
    gap = list(itertools.islice(hay, lag - sum(map(len, after))))
    cut = rng.randrange(len(gap) + 1)
    tail = [*gap[:cut], *itertools.chain(*after), *gap[cut:]]
    bodies = [[*itertools.chain(*before), *stock.said[keys[0]][value], *tail] for value in (values[0], values[-1])]
    room = length - stock.asking - len(start(model))
    lead = list(itertools.islice(hay, room - min(map(len, bodies))))
    found = [[*start(model), *lead[: room - len(body)], *body] for body in bodies]
    return found[0], found[1]


def fitting(statements: Sequence[tuple[int, ...]], room: int) -> list[tuple[int, ...]]:
    """The first of them that together take no more than `room` tokens."""
    total = itertools.accumulate(map(len, statements))
    return [s for s, t in zip(statements, total, strict=True) if t <= room]
