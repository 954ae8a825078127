"""A run over the places of a list."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING

import numpy as np
import torch

from lab.events import Curves, Event, Progress
from lab.memorization._rows import positions
from lab.recall._cells import LEAD, Asked, start
from lab.recall._haystack import haystack
from lab.recall._material import Stock, stock
from lab.recall._measures import at_once, compared, said_both, waited
from lab.recall._numbers import mean_and_error
from lab.recall._policies import Policy, Reader
from models.errors import BadInput
from models.model import Model

if TYPE_CHECKING:
    from lab.recall.serial import SerialPosition


def serial(settings: SerialPosition, model: Model) -> Iterator[Event]:
    """Yields the curve after every place."""
    yield Progress(0, 0, "choosing what to list")
    stored = stock(model, settings.material)
    check(settings, model, stored)
    reader = Reader(model, Policy.of(settings))
    found = np.full((2, settings.items, settings.repeats), np.nan)  # recall, fidelity
    for place in range(settings.items):
        asked = listed(model, stored, settings, place)
        for step in recalled(reader, asked, stored):
            if isinstance(step, Progress):
                yield Progress(place, settings.items, f"place {place + 1}")
            else:
                found[:, place] = step
        yield curve(settings, model, reader.policy, stored, found)


def check(settings: SerialPosition, model: Model, stored: Stock) -> None:
    """Raises `BadInput` where the list is too long for the model, or for the stock."""
    known = min(len(stored.names), len(stored.told) - 1)
    if settings.items > known:
        raise BadInput(f"{settings.items} items are more than can be told apart", f"{stored.kind} have {known}", "Choose a shorter list, or tokens as the "
                       "material",
                       setting="items")
    length, most = needed(settings, model, stored), positions(model)
    if length > most:
        raise BadInput(f"the list with its question takes {length} tokens", f"{model.name} reads up to {most}", "Choose fewer items, or a shorter delay",
                       setting="items" if length - settings.delay > most else "delay")


def needed(settings: SerialPosition, model: Model, stored: Stock) -> int:
    return len(start(model)) + LEAD + settings.items * stored.longest + settings.delay + stored.asking


def listed(model: Model, stored: Stock, settings: SerialPosition, place: int) -> Asked:
    """Texts in which the item at `place` is asked for; its key and value come first in `stored`."""
    rng, rows = random.Random(f"list {settings.seed} {place}"), []
    length = needed(settings, model, stored) - stored.asking
    for row in range(settings.repeats):
        keys, values = rng.sample(range(len(stored.names)), settings.items), rng.sample(range(len(stored.told)), settings.items + 1)
        hay = haystack(model, stored, f"list {settings.seed} {place} {row}")
        tail, bodies = list(islice(hay, settings.delay)), []
        for mine in (values[0], values[-1]):
            said = [stored.said[k][v] for k, v in zip(keys[1:], values[1:-1], strict=True)]
            said.insert(place, stored.said[keys[0]][mine])
            bodies.append([*chain(*said), *tail])
        room = length - len(start(model))
        lead = list(islice(hay, room - min(map(len, bodies))))
        rows.append((*([*start(model), *lead[: room - len(body)], *body] for body in bodies), stored.cues[keys[0]], values))
    tensors = [torch.tensor(x, device=model.device) for x in zip(*rows, strict=True)]
    return Asked(tensors[0], tensors[1], tensors[2], tensors[3][:, 0], tensors[3][:, -1], tensors[3][:, :-1])


def recalled(reader: Reader, asked: Asked, stored: Stock) -> Iterator[Progress | np.ndarray]:
    """(2, rows): whether the answer is the likeliest value of its text, and its fidelity."""
    first, rows, parts = torch.tensor(stored.answers, device=asked.context.device), len(asked.context), []
    size = at_once(reader, asked.context.shape[1] + asked.question.shape[1])
    for i in range(0, rows, size):
        mine = slice(i, i + size)
        said, moved = yield from waited(said_both(reader, asked, mine), i, rows)
        answers = compared(said, moved, first, asked.answer[mine], asked.other[mine])
        among = said[0][:, first].gather(1, asked.stored[mine])
        parts.append(np.stack([(among.argmax(1) == 0).double().cpu().numpy(), answers.cued]))
        yield Progress(min(i + size, rows), rows)
    yield np.concatenate(parts, 1)


def curve(settings: SerialPosition, model: Model, policy: Policy, stored: Stock, found: np.ndarray) -> Curves:
    mean, error = (np.stack(x) for x in zip(*(mean_and_error(f.T) for f in found), strict=True))
    chance = np.full((1, settings.items), 1 / settings.items)
    third = max(1, settings.items // 3)
    ends = (mean[0, :third].mean(), mean[0, third:-third].mean(), mean[0, -third:].mean())
    told = "" if np.isnan(mean).any() else f"primacy {ends[0] - ends[1]:+.2f}, recency {ends[2] - ends[1]:+.2f}"
    facts = (f"{model.name} · {policy.label}", f"{stored.kind}, {settings.delay} tokens before the question, {settings.repeats} texts a place")
    return Curves("Recall by place in the list", ("recall, of those in the text", "cued fidelity, bits", "chance of recall"),
                  np.arange(1, settings.items + 1, dtype=float), "place in the list", np.concatenate([mean, chance]),
                  np.concatenate([error, np.full_like(chance, np.nan)]), "share recalled; bits, 0 to 1", settings.direction,
                  (*facts, told) if told else facts)
