"""A run over lengths and depths."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from lab.events import Event, Grid, Progress, Table
from lab.memorization._rows import positions
from lab.recall._cells import Asked, cell, needed
from lab.recall._material import Stock, own, stock
from lab.recall._measures import at_once, waited
from lab.recall._numbers import AUTO, doubling, mean_and_error, numbers
from lab.recall._policies import Policy, Reader, holding
from models.errors import BadInput
from models.model import Model

if TYPE_CHECKING:
    from lab.recall.needle import Needle


@dataclass
class Found:
    """`margins[length, depth]` are those of the texts of a cell, in nats."""

    settings: Needle
    name: str
    policy: Policy
    claimed: int
    stock: Stock
    lengths: list[int]
    depths: list[float]
    bytes: int = 0
    margins: dict[tuple[int, float], np.ndarray] = field(default_factory=dict)

    @property
    def effective(self) -> int:
        """The longest length up to which every one was retrieved at every depth; 0 where not even the shortest was."""
        best = 0
        for length in self.lengths:
            cells = [self.margins.get((length, d)) for d in self.depths]
            if any(c is None or float((c > 0).mean()) < self.settings.enough for c in cells):
                break
            best = length
        return best


def needle(settings: Needle, model: Model) -> Iterator[Event]:
    """Yields the chosen figure after every cell."""
    yield Progress(0, 0, "laying out the haystack")
    stored = own(model, settings.needle, settings.question, settings.values) if settings.needle.strip() else stock(model, settings.material)
    lengths = chosen(settings, model, stored)
    reader = Reader(model, Policy.of(settings))
    depths = [float(d) for d in np.linspace(0, 1, settings.depths)]
    found = Found(settings, model.name, reader.policy, positions(model), stored, lengths, depths)
    found.bytes = yield from waited(holding(reader, lengths[-1]), 0, 0, "measuring the memory")
    for length in lengths:
        for depth in depths:
            asked = at(model, stored, length, depth, settings.repeats, f"needle {settings.seed}")
            for step in margins(reader, asked, stored):
                if isinstance(step, Progress):
                    yield Progress(len(found.margins), len(lengths) * len(depths), f"{length} tokens, depth {depth:.2f}")
                else:
                    found.margins[length, depth] = step
            yield view(found)
    yield view(found)


def chosen(settings: Needle, model: Model, stored: Stock) -> list[int]:
    """Raises `BadInput` where a text is shorter than the needle with its question, or longer than the model can read."""
    least, most = needed(model, stored, 0, 1), positions(model)
    if settings.lengths.strip().lower() == AUTO:
        if least > min(most, settings.longest):
            raise BadInput(f"the needle and its question are {least} tokens long", f"texts of {min(most, settings.longest)} tokens have no room for them",
                           "Write a shorter needle, or choose tokens as the material", setting="needle")
        return [n for n in doubling(16, min(most, settings.longest)) if n >= least]
    found = numbers(settings.lengths, "lengths", low=1)
    if found[0] < least:
        raise BadInput(f"the needle is longer than the text: with its question it takes {least} tokens, and a text has {found[0]}", "a text holds the needle",
                       f"Ask for lengths from {least} on, or write a shorter needle", setting="lengths")
    if found[-1] > most:
        raise BadInput(f"a text of {found[-1]} tokens is past the context", f"{model.name} reads up to {most}", f"Ask for lengths up to {most}",
                       setting="lengths")
    return found


def at(model: Model, stored: Stock, length: int, depth: float, rows: int, name: str) -> Asked:
    """Texts of `length` tokens with their question, the needle after the share `depth` of the haystack."""
    free = length - needed(model, stored, 0, 1)
    return cell(model, stored, free - round(depth * free), 1, rows, name, length)


def margins(reader: Reader, asked: Asked, stored: Stock) -> Iterator[Progress | np.ndarray]:
    """Nats by which the told value beats the best other, text by text."""
    first = torch.tensor(stored.answers, device=asked.context.device)
    rows, parts = len(asked.context), []
    size = at_once(reader, asked.context.shape[1] + asked.question.shape[1])
    for i in range(0, rows, size):
        mine = slice(i, i + size)
        logits = yield from waited(reader.asking(asked.context[mine], asked.question[mine]), i, rows)
        parts.append(beaten(logits[:, 0, first], asked.answer[mine]))
        yield Progress(min(i + size, rows), rows)
    yield torch.cat(parts).double().cpu().numpy()


def beaten(values: torch.Tensor, answer: torch.Tensor) -> torch.Tensor:
    """(rows,): the logit of the answer less the largest of the others; log-probabilities differ by as much."""
    right = values.gather(1, answer[:, None])[:, 0]
    return right - values.scatter(1, answer[:, None], -torch.inf).amax(1)


def view(found: Found) -> Event:
    show, shape = found.settings.show, (len(found.depths), len(found.lengths))
    margin, error, share = np.full(shape, np.nan), np.full(shape, np.nan), np.full(shape, np.nan)
    for (length, depth), values in found.margins.items():
        place = found.depths.index(depth), found.lengths.index(length)
        margin[place], error[place] = mean_and_error(values)
        share[place] = (values > 0).mean()
    facts = (f"{found.name} · {found.policy.label} · effective length {found.effective or 'none'}, claimed {found.claimed}",
             f"{found.settings.repeats} texts a cell, each another; {len(found.stock.told)} values, chance {1 / len(found.stock.told):.3f}",
             f"memory after the longest text: {found.bytes / 1024:.4g} KiB")
    if show == "table":
        return table(found, margin, error, share, facts)
    rows, columns = tuple(f"{d:.2f}" for d in found.depths), tuple(map(str, found.lengths))
    spread = np.sqrt(share * (1 - share) / found.settings.repeats)
    value, wrong = (margin, error) if show == "margin" else (share, spread)
    unit = "nats by which the needle's value beats the best other" if show == "margin" else "share of texts in which the needle is found"
    return Grid("Needle in a haystack", rows, columns, "depth", "tokens", value, wrong, unit, found.settings.direction, facts, diverging=show == "margin")


def table(found: Found, margin: np.ndarray, error: np.ndarray, share: np.ndarray, facts: tuple[str, ...]) -> Table:
    def cells(i: int, j: int) -> tuple[float | None, ...]:
        return tuple(None if np.isnan(x[i, j]) else float(x[i, j]) for x in (margin, error, share))

    rows = tuple((float(n), d, *cells(i, j)) for j, n in enumerate(found.lengths) for i, d in enumerate(found.depths))
    return Table("Needle in a haystack", ("tokens", "depth", "margin", "± margin", "retrieved"),
                 ("length of the text with its question", "share of the haystack before the needle", "nats over the best other value, higher: surer",
                  "its standard error", "share of texts with a margin above 0"), rows, facts,
                 "not read yet")
