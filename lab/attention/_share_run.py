"""A run over the heads of keys and values: how alike they are, then what it costs to let like ones share, from all heads down to one."""

from __future__ import annotations

import random
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from lab.attention._head_texts import facts_or_named
from lab.attention._share_alike import Groups, budgets, cka, cosine, grouped, merges, shuffled
from lab.attention._share_find import PARTS, Layer, find
from lab.attention._share_fuse import Key, Outputs, fused, outputs, weight_moments
from lab.attention._share_views import Costs, similarity
from lab.data import Data
from lab.events import Event, Progress
from lab.memorization._read import read
from lab.memorization._rows import Row, rows_of
from lab.progress import retold
from models.errors import BadInput
from models.model import Model

if TYPE_CHECKING:
    from lab.attention.sharing import HeadSharing

STEPS = 8  # points of a curve at most: a net may have many heads
RANDOM = "both, groups at random"
LINES = {"keys": ("keys",), "values": ("values",), "keys and values": ("keys", "values"), RANDOM: ("keys", "values")}
Alike = dict[Key, np.ndarray]


def run(settings: HeadSharing, model: Model, data: Data) -> Iterator[Event]:
    """Yields the similarities as one figure, or the costs after every fusion."""
    yield Progress(0, 0, "looking for keys and values")
    layers = find(model)
    if settings.show == "similarity" and settings.layer >= 0 and settings.layer not in layers:
        raise BadInput(f"layer {settings.layer} has no heads that can be compared", f"those of layers {', '.join(map(str, layers))} can",
                       "Choose one of these, or -1 for all", setting="layer")
    rows = texts(settings, model, data)
    seen = dict[Key, Outputs]()
    if settings.of == "outputs" or settings.fusion == "least squares":
        seen = yield from retold(outputs(model, layers, rows), lambda _: Progress(0, 0, "reading keys and values of the texts"))
    alike = compared(settings, model, layers, seen)
    if settings.show == "similarity":
        yield similarity(settings, {layer: alike[settings.part, layer] for layer in layers if settings.layer in (-1, layer)}, len(rows))
    else:
        yield from costs(settings, model, layers, rows, seen, alike)


def texts(settings: HeadSharing, model: Model, data: Data) -> list[Row]:
    """Up to `most` texts that the setting `items` names, drawn by seed."""
    items = facts_or_named(data, settings.items)
    if len(items) > settings.most:
        items = random.Random(settings.seed).sample(items, settings.most)
    rows = [row for row in rows_of(model, items) if row.answer]
    if not rows:
        raise BadInput("no text has two tokens", "nothing predicts the first token of a text", "Give longer texts", setting="items")
    return rows


def compared(settings: HeadSharing, model: Model, layers: Mapping[int, Layer], seen: Mapping[Key, Outputs]) -> Alike:
    """How alike the heads of every layer are, for keys and for values."""
    measure, found = (cka if settings.by == "CKA" else cosine), Alike()
    for layer, parts in layers.items():
        for part in PARTS:
            one = parts.part(part)
            outer = seen[part, layer].moments(one.heads, settings.by == "CKA") if settings.of == "outputs" else weight_moments(model, one)
            found[part, layer] = measure(outer)
    return found


def costs(settings: HeadSharing, model: Model, layers: Mapping[int, Layer], rows: Sequence[Row], seen: Mapping[Key, Outputs], alike: Alike) -> Iterator[Event]:
    orders = {part: {layer: merges(alike[part, layer]) for layer in layers} for part in PARTS}
    most = max(parts.keys.heads for parts in layers.values())
    kept = sorted({max(1, round(k)) for k in np.linspace(1, most, min(most, STEPS))}, reverse=True)
    found = Costs(settings, tuple(LINES), kept, len(rows), len(layers))
    whole = yield from measured(model, rows, Progress(0, len(kept), "reading undisturbed"))
    found.undisturbed(whole)
    yield found.view()
    generator = torch.Generator().manual_seed(settings.seed)
    for done, heads in enumerate(kept[1:], 1):
        for line, parts in LINES.items():
            groups = {(part, layer): several for part in parts for layer, several in chosen(orders[part], alike, part, heads, settings).items()}
            if line == RANDOM:
                groups = {key: shuffled(several, generator) for key, several in groups.items()}
            yield Progress(done, len(kept), f"{line}: {heads} heads a layer")
            smaller = fused(model, layers, groups, seen if settings.fusion == "least squares" else None)
            found.put(line, heads, (yield from measured(smaller, rows, Progress(done, len(kept), f"{line}: {heads} heads a layer"))))
        yield found.view()


def chosen(orders: Mapping[int, list[tuple[float, int, int]]], alike: Alike, part: str, heads: int, settings: HeadSharing) -> dict[int, Groups]:
    """The groups of every layer where `heads` are left in each, or on average."""
    counts = budgets(dict(orders), heads, settings.budget == "equal")
    return {layer: grouped(len(alike[part, layer]), order, counts[layer]) for layer, order in orders.items()}


def measured(model: Model, rows: Sequence[Row], note: Progress) -> Generator[Event, None, dict[str, np.ndarray]]:
    """(texts,) each: `loss`, the mean over all tokens of a text in nats, and `recall`, whether greedy decoding gives its whole answer."""
    found = {"loss": np.zeros(len(rows)), "recall": np.zeros(len(rows))}
    for batch in read(model, rows):
        for i, reading in batch.items():
            found["loss"][i] = -reading.log_prob.mean()
            found["recall"][i] = reading.hit[reading.start :].all()
        yield note
    return found
