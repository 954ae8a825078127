"""Documents whose repetition is known exactly: chains of symbols from a sparse bigram table, and copies of a random string."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

SYMBOLS = 64
SUCCESSORS = 8  # symbols that may follow a symbol
TOKENS = 32  # of a document
CHAINS, COPIES = 16, 16  # documents of a step
PERIODS = (5, 12)  # shortest and longest string of a copy document: were all of one length, a head could copy by counting
HELD, HELD_COPIES = 1024, 256  # documents that nobody trains on


def chances() -> tuple[float, ...]:
    """The chance of each successor, in the order of its row of the table: 1, 1/2, 1/3, ... over their sum; the same for every symbol."""
    total = sum(1 / k for k in range(1, SUCCESSORS + 1))
    return tuple(1 / k / total for k in range(1, SUCCESSORS + 1))


def entropy() -> float:
    """Nats a token that nobody can foretell of a chain: the loss of the table itself on documents without end, whatever the table."""
    return -sum(p * math.log(p) for p in chances())


@dataclass(frozen=True)
class Corpus:
    """All that one run reads, drawn from `seed`. Two runs of one seed, share and length differ in what fills the repeated places, and in nothing else.

    Of the `CHAINS` * steps places for chain documents, `share` are the repeated ones, scattered at random. They hold documents of a pool of `pool`, each
    as often as any other, give or take one; with `pool` 0 they hold documents of their own, and with `control` they stay empty.
    """

    seed: int
    steps: int
    share: float
    pool: int
    control: bool = False

    @functools.cached_property
    def _generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed)

    @functools.cached_property
    def _parts(self) -> dict[str, Tensor]:
        """Everything in one order of draws: what depends on the pool comes last, so that no pool changes the rest."""
        generator, places = self._generator, CHAINS * self.steps
        found = {"table": torch.stack([torch.randperm(SYMBOLS, generator=generator)[:SUCCESSORS] for _ in range(SYMBOLS)])}
        found["held"] = chains(found["table"], HELD, generator)
        found["held_copies"], found["held_periods"] = copies(HELD_COPIES, generator)
        found["unique"] = chains(found["table"], places, generator)
        found["copies"], _ = copies(COPIES * self.steps, generator)
        found["order"] = torch.randperm(places, generator=generator)
        found["repeated"] = torch.zeros(places, dtype=torch.bool)
        found["repeated"][found["order"][: self.slots]] = True
        found["pool"] = chains(found["table"], 0 if self.control else self.pool, generator)
        return found

    @functools.cached_property
    def _read(self) -> Int[Tensor, "places tokens"]:
        """What stands in every place for a chain document."""
        read, pool = self._parts["unique"].clone(), self.pool_docs
        if len(pool) and self.slots:
            rounds = [torch.randperm(len(pool), generator=self._generator) for _ in range(-(-self.slots // len(pool)))]
            read[self.repeated] = pool[torch.cat(rounds)[: self.slots]]
        return read

    @property
    def slots(self) -> int:
        """Repeated places of the whole run."""
        return round(self.share * CHAINS * self.steps)

    @property
    def reads(self) -> float:
        """How often a document of the pool is read, on average; 1 where all are unique."""
        return self.slots / self.pool if self.pool and not self.control and self.slots else 1.0

    @property
    def table(self) -> Int[Tensor, "symbols successors"]:
        return self._parts["table"]

    @property
    def repeated(self) -> Tensor:
        """(places): which of them are repeated ones."""
        return self._parts["repeated"]

    @property
    def pool_docs(self) -> Int[Tensor, "pool tokens"]:
        return self._parts["pool"]

    @property
    def held(self) -> Int[Tensor, "docs tokens"]:
        return self._parts["held"]

    @property
    def held_copies(self) -> tuple[Tensor, Tensor]:
        """Copy documents (docs, tokens) and the length of the string of each."""
        return self._parts["held_copies"], self._parts["held_periods"]

    def chain_batch(self, step: int) -> Int[Tensor, "docs tokens"]:
        here = slice(step * CHAINS, (step + 1) * CHAINS)
        return self._read[here][~self.repeated[here]] if self.control else self._read[here]

    def copy_batch(self, step: int) -> Int[Tensor, "docs tokens"]:
        return self._parts["copies"][step * COPIES : (step + 1) * COPIES]

    def batch(self, step: int) -> Int[Tensor, "docs tokens"]:
        """The documents of a step: `CHAINS` + `COPIES`, or fewer where repeated places stay empty."""
        return torch.cat([self.chain_batch(step), self.copy_batch(step)])


def chains(table: Tensor, count: int, generator: torch.Generator) -> Int[Tensor, "docs tokens"]:
    """`count` documents: a first symbol at random, then always one of the successors of the last, by their chances."""
    docs = torch.empty(count, TOKENS, dtype=torch.long)
    docs[:, 0] = torch.randint(SYMBOLS, (count,), generator=generator)
    edges = torch.tensor(chances()).cumsum(0)
    for t in range(1, TOKENS):
        drawn = torch.searchsorted(edges, torch.rand(count, generator=generator)).clamp(max=SUCCESSORS - 1)
        docs[:, t] = table[docs[:, t - 1], drawn]
    return docs


def copies(count: int, generator: torch.Generator) -> tuple[Int[Tensor, "docs tokens"], Int[Tensor, " docs"]]:
    """`count` documents [r r r ...], r a string of symbols that all differ, and the length of each r."""
    strings = torch.rand(count, SYMBOLS, generator=generator).argsort(1)[:, : PERIODS[1]]
    periods = torch.randint(PERIODS[0], PERIODS[1] + 1, (count,), generator=generator)
    return strings.gather(1, torch.arange(TOKENS) % periods[:, None]), periods


def table_loss(table: Tensor, docs: Tensor) -> float:
    """Nats a token of the true table on chain documents, after their first symbol: the floor of every model that reads these documents."""
    rank = (table[docs[:, :-1]] == docs[:, 1:, None]).float().argmax(-1)
    return -float(torch.tensor(chances()).log()[rank].mean())
