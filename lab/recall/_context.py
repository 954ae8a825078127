"""Loss by what stood before, and along a text."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from lab.events import Curves, Event, Progress
from lab.memorization._rows import encode, positions
from lab.recall._cells import start
from lab.recall._haystack import general
from lab.recall._measures import waited
from lab.recall._numbers import AUTO, doubling, mean_and_error, numbers
from lab.recall._policies import Policy, Reader, frequencies
from models.errors import BadInput
from models.model import Model

if TYPE_CHECKING:
    from lab.recall.context import EffectiveContext

BINS = 16  # of positions
UNIT = "nats a token"


def context(settings: EffectiveContext, model: Model) -> Iterator[Event]:
    """Yields the chosen curve after every text."""
    yield Progress(0, 0, "preparing texts")
    reader = Reader(model, Policy.of(settings))
    yield from (truncated if settings.show == "truncation" else along)(settings, reader)


def truncated(settings: EffectiveContext, reader: Reader) -> Iterator[Event]:
    model = reader.model
    most = min(positions(model), settings.longest) - len(start(model)) - settings.target
    lengths = kept_before(settings, model, most)
    loss = np.full((settings.repeats, len(lengths)), np.nan)
    for i, text in enumerate(texts(settings, model, lengths[-1] + settings.target)):
        for j, n in enumerate(lengths):
            ids = torch.tensor([[*start(model), *text[lengths[-1] - n : lengths[-1]]]], device=model.device)
            answer = torch.tensor([text[lengths[-1] :]], device=model.device)
            if ids.shape[1] == 0:  # no start token, and nothing before: the first token of the target has no loss
                continue
            logits = yield from waited(reader.asking(ids[:, :-1], torch.cat([ids[:, -1:], answer], 1), settings.target + 1), i, settings.repeats)
            loss[i, j] = float(nn.functional.cross_entropy(logits[0, :-1], answer[0]))
            yield Progress(i, settings.repeats, f"text {i + 1}, {n} tokens before")
        yield over_lengths(settings, reader, lengths, loss[: i + 1])


def kept_before(settings: EffectiveContext, model: Model, most: int) -> list[int]:
    """Raises `BadInput` where a length is past what the model has positions for."""
    if most < 1:
        raise BadInput(f"a target of {settings.target} tokens leaves no room before it", f"{model.name} reads up to {positions(model)}",
                       "Choose a shorter target",
                       setting="target")
    if settings.lengths.strip().lower() == AUTO:
        return [1, *doubling(2, most)] if most > 2 else [most]
    found = numbers(settings.lengths, "lengths", low=1)
    if found[-1] > most:
        raise BadInput(f"{found[-1]} tokens before the target are past the context", f"{model.name} reads {positions(model)}, of which up to "
                       f"{settings.longest} are "
                       "used here", f"The longest is {most}", setting="lengths")
    return found


def effective(loss: np.ndarray, lengths: list[int], tolerance: float) -> int:
    """The smallest length than which no longer one has a mean loss lower by more than `tolerance`."""
    mean = loss.mean(0)
    return next(n for i, n in enumerate(lengths) if mean[i] - mean[i:].min() <= tolerance)


def over_lengths(settings: EffectiveContext, reader: Reader, lengths: list[int], loss: np.ndarray) -> Curves:
    mean, error = mean_and_error(loss)
    gained = "" if np.isnan(mean).any() else f"effective context {effective(loss, lengths, settings.tolerance)} tokens, claimed {positions(reader.model)}"
    facts = (f"{reader.model.name} · {reader.policy.label} · {len(loss)} texts, the last {settings.target} tokens of each", *([gained] if gained else []))
    return Curves("Loss over how much was read before", ("loss",), np.array(lengths, float), "tokens before the target", mean[None], error[None], UNIT,
                  settings.direction, facts)


def along(settings: EffectiveContext, reader: Reader) -> Iterator[Event]:
    """Raises `BadInput` where the text is longer than a table of positions."""
    model, claimed = reader.model, positions(reader.model)
    if settings.along > claimed and frequencies(model.net) is None:
        raise BadInput(f"{settings.along} tokens are past the context", f"{model.name} has a place for each of {claimed} positions, and no more",
                       f"Read along up to {claimed}, or choose a model with rotary positions", setting="along")
    edges = np.unique(np.round(np.linspace(0, settings.along - 1, min(BINS, settings.along - 1) + 1)).astype(int))
    loss = np.full((settings.repeats, len(edges) - 1), np.nan)
    for i, text in enumerate(texts(settings, model, settings.along)):
        ids: Tensor = torch.tensor([[*start(model), *text][: settings.along]], device=model.device)
        each = yield from waited(reader.losing(ids), i, settings.repeats, f"text {i + 1}")
        values = each[0].double().cpu().numpy()
        loss[i] = [values[a:b].mean() for a, b in zip(edges, edges[1:], strict=False)]
        yield Progress(i + 1, settings.repeats)
        yield over_positions(settings, reader, edges, loss[: i + 1])


def over_positions(settings: EffectiveContext, reader: Reader, edges: np.ndarray, loss: np.ndarray) -> Curves:
    mean, error = mean_and_error(loss)
    claimed = positions(reader.model)
    inside = edges[1:] <= claimed
    told = [f"{mean[inside].mean():.3f} {UNIT} within the {claimed} tokens that it claims"] if inside.any() else []
    told += [f"{mean[~inside].mean():.3f} past them"] if not inside.all() else []
    return Curves("Loss along a text", ("loss",), (edges[1:] + edges[:-1]) / 2, "position", mean[None], error[None], UNIT, settings.direction,
                  (f"{reader.model.name} · {reader.policy.label} · {len(loss)} texts", *([", ".join(told)] if told else [])))


def texts(settings: EffectiveContext, model: Model, length: int) -> Iterator[list[int]]:
    """`repeats` texts of `length` tokens. Raises `BadInput` where one's own text is too short for so many pieces."""
    if settings.texts.strip().lower() == "general":
        for i in range(settings.repeats):
            yield list(islice(general(model, f"context {settings.seed} {i}"), length))
        return
    ids = encode(model.tokenizer, settings.texts)
    ids = ids[len(start(model)) :] if ids[: len(start(model))] == start(model) else ids
    if len(ids) < length:
        raise BadInput(f"the text has {len(ids)} tokens", f"one piece takes {length}", "Give a longer text, or ask for shorter lengths", setting="texts")
    step = max(1, (len(ids) - length) // max(1, settings.repeats - 1))
    for i in range(settings.repeats):
        yield ids[min(i * step, len(ids) - length) :][:length]
