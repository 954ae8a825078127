"""What one grown memory recalls, over lag and over load, and how faithfully: measured on fresh sequences with known answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from models.memory import tasks
from models.memory.net import Reader

CHUNK = 32  # sequences of one forward pass, so that no pass is long


@dataclass(frozen=True)
class Answers:
    """One entry a question. `right` 0 or 1; `margin`: nats by which the answer's log-probability is above that of the best other token; `lag` in tokens."""

    right: Float[np.ndarray, " questions"]
    margin: Float[np.ndarray, " questions"]
    lag: Float[np.ndarray, " questions"]


@dataclass(frozen=True)
class Effects:
    """One entry a swap of a stored value. `divergence`: Jensen-Shannon, in bits, 0 to 1, between the answers before and after; `followed`: 1 where both the
    old and the new answer were right."""

    divergence: Float[np.ndarray, " swaps"]
    followed: Float[np.ndarray, " swaps"]
    lag: Float[np.ndarray, " swaps"]


def answers(net: Reader, batch: tasks.Batch) -> Iterator[Answers | None]:
    """Yields None as it goes, and last what was answered to every question of the batch."""
    asked, found = batch.target >= 0, list[Tensor]()
    for part, mine in zip(batch.tokens.split(CHUNK), asked.split(CHUNK), strict=True):
        with torch.no_grad():
            found.append(net(part)[mine])
        yield None
    logits, target = torch.cat(found), batch.target[asked]
    own = logits.gather(1, target[:, None])[:, 0]
    best = logits.scatter(1, target[:, None], -torch.inf).max(1).values
    yield Answers((own > best).double().numpy(), (own - best).double().numpy(), batch.lag[asked].double().numpy())


def effects(net: Reader, batch: tasks.Batch, generator: torch.Generator) -> Iterator[Effects | None]:
    """Cued interventional fidelity: of every sequence one stored value is swapped, and the answer at its question is compared with what it was."""
    new, asks = tasks.swapped(batch, generator)
    found = list[Tensor]()
    for one, two, at in zip(batch.tokens.split(CHUNK), new.tokens.split(CHUNK), asks.split(CHUNK), strict=True):
        rows = torch.arange(len(one))
        with torch.no_grad():
            found.append(torch.stack([net(one)[rows, at], net(two)[rows, at]]))
        yield None
    logits, rows = torch.cat(found, 1), torch.arange(len(asks))
    right = (logits[0].argmax(1) == batch.target[rows, asks]) & (logits[1].argmax(1) == new.target[rows, asks])
    yield Effects(divergence(*logits.double().softmax(-1)).numpy(), right.double().numpy(), batch.lag[rows, asks].double().numpy())


def divergence(p: Float[Tensor, "rows tokens"], q: Float[Tensor, "rows tokens"]) -> Float[Tensor, " rows"]:
    """Jensen-Shannon divergence in bits: 0 where p and q are one, 1 where they share nothing."""
    def entropy(d: Tensor) -> Tensor:
        return -torch.xlogy(d, d).sum(-1)

    return ((entropy((p + q) / 2) - (entropy(p) + entropy(q)) / 2) / np.log(2)).clamp(0, 1)


def last(run: Iterator[Any]) -> Any:
    """What a measurement ends with."""
    return [found for found in run if found is not None][-1]


def binned(value: Float[np.ndarray, " n"], lag: Float[np.ndarray, " n"], bins: tuple[tuple[int, int], ...]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard error in each bin of lags (first, last); NaN where a bin has nobody, or one alone."""
    mean, error = np.full(len(bins), np.nan), np.full(len(bins), np.nan)
    for i, (low, high) in enumerate(bins):
        mine = value[(lag >= low) & (lag <= high)]
        if len(mine):
            mean[i] = mine.mean()
        if len(mine) > 1:
            error[i] = mine.std(ddof=1) / len(mine) ** 0.5
    return mean, error
