"""A run over all heads: scores as the sequences are read, then effects layer by layer."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lab.attention._head_ablate import Ablations, per_row
from lab.attention._head_copy import copy_scores
from lab.attention._head_read import Reader, Seen
from lab.attention._head_scores import COPY, DUPLICATE, INDUCTION, PREVIOUS, SINK, looked_for, score, sink
from lab.attention._head_texts import Texts, answers, repeated
from lab.attention._head_views import Heads, view
from lab.data import Data
from lab.events import Event, Progress
from models.errors import BadInput
from models.model import Model, blocks

if TYPE_CHECKING:
    from lab.attention.heads import HeadScores

TOKENS = {"cpu": 3e8, "other": 1e11}  # weights times tokens of a batch that is read


def run(settings: HeadScores, model: Model, data: Data) -> Iterator[Event]:
    """Yields the chosen figure after every batch and every layer."""
    yield Progress(0, 0, "drawing random tokens")
    texts = repeated(model, settings.length, settings.sequences, settings.seed)
    ablates = settings.show != "score"
    asked = answers(settings, model, data) if ablates and settings.on == "answers" else texts
    seen: list[Seen] = []
    for done, batch in read(model, texts):
        if not seen:
            heads = Heads(settings, len(blocks(model.net)), next(iter(batch.patterns.values())).shape[1])
        seen.append(batch)
        heads.scored(measured(settings, texts, seen))
        if settings.score != COPY:
            yield view(heads, "score")
        yield Progress(done, settings.sequences, "reading patterns")
    if settings.score == COPY or settings.show == "table":
        yield from copying(heads, model, texts, seen)
    if ablates:
        yield from ablated(heads, model, asked)
    yield view(heads, settings.show)


def read(model: Model, texts: Texts) -> Iterator[tuple[int, Seen]]:
    """(sequences done, what a batch showed). Raises `BadInput` where the attention cannot be seen."""
    reader = Reader(model)
    weights = sum(p.numel() for p in model.net.parameters())
    size = max(1, int(TOKENS.get(model.device.type, TOKENS["other"]) / (weights * texts.ids.shape[1])))
    for i in range(0, len(texts.ids), size):
        yield min(i + size, len(texts.ids)), reader.read(texts.ids[i : i + size])


def measured(settings: HeadScores, texts: Texts, seen: list[Seen]) -> dict[str, dict[int, Tensor]]:
    """Score -> layer -> (sequences so far, heads), all but the copy score."""
    length = settings.length
    queries = slice(texts.first + (length if settings.queries == "repeated half" else 0), texts.first + 2 * length)
    keys = slice(0 if settings.bos else texts.first, texts.first + 2 * length)
    found: dict[str, dict[int, Tensor]] = {}
    rows = sum(len(next(iter(s.patterns.values()))) for s in seen)
    targets = {kind: looked_for(kind, texts.ids[:rows]) for kind in (PREVIOUS, DUPLICATE, INDUCTION)}
    for layer in seen[0].patterns:
        pattern = torch.cat([s.patterns[layer] for s in seen]).float()
        for kind, target in targets.items():
            found.setdefault(kind, {})[layer] = score(pattern, target, queries, keys)
        found.setdefault(SINK, {})[layer] = sink(pattern, queries)
    return found


def copying(heads: Heads, model: Model, texts: Texts, seen: list[Seen]) -> Iterator[Event]:
    found: dict[int, Tensor] = {}
    for layer, value in copy_scores(model, texts, seen, heads.settings.length):
        found[layer] = value
        heads.scored({COPY: found})
        if heads.settings.score == COPY:
            yield view(heads, "score")
        yield Progress(len(found), heads.layers, "what heads write when they look at one token")
    if not found and heads.settings.score == COPY:
        raise BadInput(f"what heads copy cannot be seen in {type(model.net).__name__}", "its values do not go through the interface of transformers, or it has "
                       "no unembedding of its own", "Choose another score", setting="score")


def ablated(heads: Heads, model: Model, texts: Texts) -> Iterator[Event]:
    settings = heads.settings
    work = Ablations(model, texts)
    if not any(matrix is not None for matrix in work.outlets):
        raise BadInput(f"no block of {type(model.net).__name__} has heads to ablate", "its attention has no single last matrix", "Show the score alone",
                       setting="show")
    loss = yield from undisturbed(heads, work, texts)
    layers = [i for i in range(heads.layers) if i in work.sums]
    for done, layer in enumerate(layers):
        for found in work.effects(layer, loss, settings.ablation == "mean"):
            if found is None:
                yield Progress(done, len(layers), f"ablating the heads of layer {layer}")
            else:
                heads.ablated(layer, found)
        yield view(heads, settings.show)


def undisturbed(heads: Heads, work: Ablations, texts: Texts) -> Generator[Event, None, Tensor]:
    """(rows,): the mean loss of what counts in every row; a fact says how it compares with the first half."""
    parts = []
    for batch in work.base():
        parts.append(batch)
        yield Progress(0, heads.layers, "reading undisturbed")
    losses, counted = torch.cat(parts), texts.counted[:, 1:].to(parts[0].device)
    loss = per_row(losses, counted)
    if heads.settings.on == "answers":
        heads.lines.append(f"{len(loss)} answers, {float(loss.mean()):.3f} nats a token undisturbed")
    else:
        before = torch.zeros_like(counted)
        before[:, texts.first : texts.first + heads.settings.length - 1] = True
        first = per_row(losses, before)
        heads.lines.append(f"undisturbed {float(loss.mean()):.3f} nats a token in the repeated half, {float(first.mean()):.3f} in the first")
    return loss

