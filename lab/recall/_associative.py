"""A run over the number of pairs."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float

from lab.events import Curves, Event, Grid, Progress, Table
from lab.memorization._rows import positions
from lab.recall._cells import start
from lab.recall._material import Stock, stock
from lab.recall._measures import waited
from lab.recall._numbers import AUTO, doubling, mean_and_error, numbers
from lab.recall._policies import Policy, Reader
from models.errors import BadInput
from models.model import Model

if TYPE_CHECKING:
    from lab.recall.associative import AssociativeRecall

BINS = 6  # of distance
DEFAULT = 32  # pairs of `auto` at most


@dataclass(frozen=True)
class Queried:
    """Answers to all questions of all texts: `among` whether the value beat those in the text, `strict` all in stock, `distance` in tokens."""

    among: Float[np.ndarray, "texts pairs"]
    strict: Float[np.ndarray, "texts pairs"]
    distance: Float[np.ndarray, "texts pairs"]


@dataclass
class Found:
    settings: AssociativeRecall
    name: str
    policy: Policy
    stock: Stock
    counts: list[int]
    queried: dict[int, Queried] = field(default_factory=dict)


def associative(settings: AssociativeRecall, model: Model) -> Iterator[Event]:
    """Yields the chosen figure after every number of pairs."""
    yield Progress(0, 0, "choosing what to pair")
    stored = stock(model, settings.material)
    counts = chosen(settings, model, stored)
    reader = Reader(model, Policy.of(settings))
    found = Found(settings, model.name, reader.policy, stored, counts)
    for done, count in enumerate(counts):
        for step in queried(reader, stored, count, settings.repeats, f"pairs {settings.seed} {count}"):
            if isinstance(step, Progress):
                yield Progress(done, len(counts), f"{count} pairs")
            else:
                found.queried[count] = step
        yield view(found)


def length(model: Model, stored: Stock, count: int) -> int:
    """Tokens of a text of so many pairs, questions and answers, at most."""
    return len(start(model)) + count * (stored.longest + stored.asking + len(stored.spoken[0]) + len(stored.stop))


def chosen(settings: AssociativeRecall, model: Model, stored: Stock) -> list[int]:
    """Raises `BadInput` where so many pairs cannot be told apart, or do not fit."""
    most, known = min(positions(model), settings.longest), min(len(stored.names), len(stored.told))
    fit = max((n for n in range(1, known + 1) if length(model, stored, n) <= most), default=0)
    if fit < 2:
        raise BadInput(f"two pairs with their questions do not fit into {most} tokens", f"a statement has up to {stored.longest}",
                       "Choose tokens as the material, or longer texts", setting="pairs")
    if settings.pairs.strip().lower() == AUTO:
        return doubling(2, min(fit, DEFAULT))
    found = numbers(settings.pairs, "pairs", low=2)
    if found[-1] > fit:
        raise BadInput(f"{found[-1]} pairs are too many", f"{min(positions(model), settings.longest)} tokens hold {fit} with their questions, and there "
                       f"are {known} "
                       f"to choose from", f"Ask for up to {fit}", setting="pairs")
    return found


def queried(reader: Reader, stored: Stock, count: int, texts: int, name: str) -> Iterator[Progress | Queried]:
    """Reads all texts. One at a time: their statements may differ in length, and so may they."""
    rng, rows = random.Random(name), []
    first = torch.tensor(stored.answers, device=reader.model.device)
    for i in range(texts):
        keys, values = rng.sample(range(len(stored.names)), count), rng.sample(range(len(stored.told)), count)
        context, question, places, distance = written(reader.model, stored, keys, values, rng.sample(range(count), count))
        ids = [torch.tensor([x], device=reader.model.device) for x in (context, question)]
        logits = yield from waited(reader.asking(ids[0], ids[1], len(question)), i, texts)
        said = logits[0, places][:, first]  # pairs, all values
        asked = torch.tensor([values[j] for j in distance], device=said.device)
        right = said.gather(1, asked[:, None])[:, 0]
        rows.append([(right >= said[:, values].amax(1)).double().cpu().numpy(), (said.argmax(1) == asked).double().cpu().numpy(),
                     np.array(list(distance.values()), float)])
        yield Progress(i + 1, texts)
    yield Queried(*(np.array([r[k] for r in rows]) for k in range(3)))


def written(model: Model, stored: Stock, keys: list[int], values: list[int], order: list[int]) -> tuple[list[int], list[int], list[int], dict[int, int]]:
    """(context, questions with answers, where in these each answer is said, pair -> distance of its cue from its statement), questions in `order`."""
    context, ends = start(model), []
    for k, v in zip(keys, values, strict=True):
        context = [*context, *stored.said[k][v]]
        ends.append(len(context))
    question: list[int] = []
    places, distance = [], {}
    for i in order:
        distance[i] = len(context) + len(question) - ends[i]
        question += stored.cues[keys[i]]
        places.append(len(question) - 1)
        question += [*stored.spoken[values[i]], *stored.stop]
    return context, question, places, distance


def view(found: Found) -> Event:
    facts = (f"{found.name} · {found.policy.label}", f"{found.stock.kind}; {found.settings.repeats} texts of each number, every pair asked once")
    figures: dict[str, Callable[[Found, tuple[str, ...]], Event]] = {"number": curves, "number and distance": grid, "table": table}
    return figures[found.settings.show](found, facts)


def figures_of(found: Found, count: int) -> list[tuple[float, float]]:
    """(mean, standard error over texts) of both shares."""
    mine = found.queried.get(count)
    if mine is None:
        return [(np.nan, np.nan)] * 2
    return [tuple(map(float, mean_and_error(x.mean(1)))) for x in (mine.among, mine.strict)]  # type: ignore[misc]


def curves(found: Found, facts: tuple[str, ...]) -> Curves:
    both = np.array([figures_of(found, n) for n in found.counts])  # counts, shares, (mean, error)
    chance = np.array([1 / n for n in found.counts])
    value = np.stack([both[:, 0, 0], both[:, 1, 0], chance])
    return Curves("Associative recall over the number of pairs", ("of those in the text", "of all in stock", "chance, of those in the text"),
                  np.array(found.counts, float), "pairs in the text", value, np.stack([both[:, 0, 1], both[:, 1, 1], np.full(len(chance), np.nan)]),
                  "share recalled", found.settings.direction, facts)


def grid(found: Found, facts: tuple[str, ...]) -> Grid:
    """Recall of those in the text, in bins of distance that hold as many questions each."""
    far = np.concatenate([q.distance.ravel() for q in found.queried.values()])
    edges = np.unique(np.round(np.quantile(far, np.linspace(0, 1, BINS + 1))))
    value, error = (np.full((len(found.counts), len(edges) - 1), np.nan) for _ in range(2))
    for i, count in enumerate(found.counts):
        if (mine := found.queried.get(count)) is None:
            continue
        place = np.clip(np.searchsorted(edges, mine.distance.ravel(), side="right") - 1, 0, len(edges) - 2)
        for j in range(len(edges) - 1):
            if (place == j).any():
                hit = mine.among.ravel()[place == j]
                value[i, j], error[i, j] = hit.mean(), np.sqrt(hit.mean() * (1 - hit.mean()) / len(hit))
    columns = tuple(f"{int(a)} to {int(b)}" for a, b in zip(edges, edges[1:], strict=False))
    return Grid("Associative recall over number and distance", tuple(map(str, found.counts)), columns, "pairs in the text", "tokens back", value, error,
                "share recalled, of the values in the text", found.settings.direction, facts)


def table(found: Found, facts: tuple[str, ...]) -> Table:
    rows = []
    for count in found.counts:
        (among, a), (strict, b) = figures_of(found, count)
        rows.append((float(count), *(None if np.isnan(x) else x for x in (among, a, strict, b)), 1 / count))
    return Table("Associative recall", ("pairs", "recall", "± recall", "strict", "± strict", "chance"),
                 ("pairs in the text", "share whose value beats all others of the text, 0 to 1, higher: more recalled", "standard error over texts",
                  "share whose value beats all in stock", "standard error over texts", "of recall"), tuple(rows), facts, "not read yet")
