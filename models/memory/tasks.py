"""What the nets learn to remember: pairs of a key and a value, asked for later, and a passkey in a haystack."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Generator, Tensor

from models.errors import BadInput

START, MARK = 0, 1  # a sequence begins with START; a passkey stands after MARK
FILLERS, KEYS, VALUES = range(2, 34), range(34, 98), range(98, 114)
TOKENS = 114
CHANCE = 1 / len(VALUES)
DIGITS = 3  # values of a passkey
POWER = 0.01  # of the gaps between a pair and its question: the density falls as x ** (POWER - 1)


@dataclass(frozen=True)
class Batch:
    """`target[b, t]` is what is asked for after token t, -1 where nothing is; `lag` how many tokens ago that value stood, 0 where nothing is asked."""

    tokens: Int[Tensor, "batch time"]
    target: Int[Tensor, "batch time"]
    lag: Int[Tensor, "batch time"]


def name(token: int) -> str:
    """The word that stands for a token on the page."""
    if token in KEYS:
        return f"k{token - KEYS.start + 1}"
    if token in VALUES:
        return f"v{token - VALUES.start + 1}"
    return ("<start>", "<pass>")[token] if token < 2 else f"w{token - FILLERS.start + 1}"


def draw(within: range, shape: tuple[int, ...], generator: Generator) -> Tensor:
    return torch.randint(within.start, within.stop, shape, generator=generator)


def haystack(batch: int, length: int, generator: Generator) -> Batch:
    """Random words after START, another for every sequence; nothing is asked."""
    tokens = draw(FILLERS, (batch, length), generator)
    tokens[:, 0] = START
    return Batch(tokens, torch.full_like(tokens, -1), torch.zeros_like(tokens))


def associations(batch: int, length: int, pairs: int, generator: Generator, spread: int = 0, power: float = POWER) -> Batch:
    """Multi-query associative recall: `pairs` different keys, each followed by its value; then every key is asked for once, after a gap.

    The pairs stand among the first `pairs + spread` places of two tokens, the questions anywhere after, near ones being likelier (a power law; all
    gaps alike where `power` is 1), words fill the rest. Raises `BadInput` where they do not fit. Arora et al. 2023 (Zoology), arXiv 2312.04927.
    """
    free = length - 1 - 2 * (pairs + spread)
    if not 0 < pairs <= min(free, len(KEYS)):
        raise BadInput(f"{pairs} pairs and their questions do not fit into {length} tokens", f"each takes three, and there are {len(KEYS)} keys",
                       "Take fewer pairs or a longer sequence", setting="pairs")
    found = haystack(batch, length, generator)
    places = pairs + spread
    rows = torch.arange(batch)[:, None]
    keys = KEYS.start + torch.rand(batch, len(KEYS), generator=generator).argsort(1)[:, :pairs]
    values = draw(VALUES, (batch, pairs), generator)
    at = 1 + 2 * torch.rand(batch, places, generator=generator).argsort(1)[:, :pairs].sort(1).values
    found.tokens[rows, at], found.tokens[rows, at + 1] = keys, values
    odds = torch.arange(1, free + 1, dtype=torch.float) ** (power - 1)
    ask = 1 + 2 * places + torch.multinomial(odds.expand(batch, -1), pairs, generator=generator)  # in random order: any key at any gap
    found.tokens[rows, ask], found.target[rows, ask], found.lag[rows, ask] = keys, values, ask - at - 1
    return found


def passkeys(batch: int, length: int, generator: Generator, depth: float | None = None) -> Batch:
    """MARK and three values somewhere in a haystack (at `depth` 0 to 1, or anywhere); MARK at its end, and they are asked for one after the other."""
    found = haystack(batch, length, generator)
    rows, last = torch.arange(batch)[:, None], length - DIGITS
    room = last - DIGITS - 1  # places where the needle can begin
    begin = 1 + (torch.randint(0, room, (batch, 1), generator=generator) if depth is None else torch.full((batch, 1), round(depth * (room - 1))))
    values, digits = draw(VALUES, (batch, DIGITS), generator), torch.arange(DIGITS)
    found.tokens[rows, begin], found.tokens[rows, begin + 1 + digits] = MARK, values
    found.tokens[:, last], found.tokens[:, last + 1 :] = MARK, values[:, :-1]
    found.target[:, last:] = values
    found.lag[:, last:] = last - begin - 1
    return found


def swapped(batch: Batch, generator: Generator) -> tuple[Batch, Int[Tensor, " batch"]]:
    """The same sequences, but of each one value that is asked for is another, where it was stored and so in the answer; and the token that asks for it.

    Of a passkey only the last value can be changed: the others stand in the question as well.
    """
    rows = torch.arange(len(batch.tokens))
    may = (batch.target >= 0).float()
    key = batch.tokens[:, -DIGITS] == MARK
    may[key, :-1] = 0.0
    asks = torch.multinomial(may, 1, generator=generator)[:, 0]
    stored = asks - batch.lag[rows, asks]
    other = (batch.target[rows, asks] - VALUES.start + torch.randint(1, len(VALUES), (len(rows),), generator=generator)) % len(VALUES) + VALUES.start
    new = Batch(batch.tokens.clone(), batch.target.clone(), batch.lag)
    new.tokens[rows, stored], new.target[rows, asks] = other, other
    return new, asks


def together(*batches: Batch) -> Batch:
    return Batch(*(torch.cat([getattr(b, n) for b in batches]) for n in ("tokens", "target", "lag")))
