"""Two models on the same texts: the map of a head, and the intensities, B - A."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from lab.attention._inputs import Cutting, Text, all_names, gathered, readable
from lab.attention._intensity import UNIT, across, label, title
from lab.attention._many import Intensities, intensities, mean_and_error, pairs
from lab.attention._mapped import UNITS, Seen, Wanted, drawn, look, resolved
from lab.data import Data
from lab.events import Curves, Event, Grid, Progress
from models import catalog
from models.errors import BadInput
from models.model import Model, blocks

if TYPE_CHECKING:
    from lab.attention.compared import ComparedAttention

T = TypeVar("T")
BEFORE, ORIGINAL = "before", "original"
DIRECTION = "above zero: model B takes more of it; below: model A"


def other(model: Model, data: Data, name: str) -> Model:
    """What the model is compared with. Raises `BadInput` where it was never edited and has no oracle, or where there is no such model.

    "before" is the model before its last edit, "original" that before all of them; "" takes the first of these, or an oracle, else a name of the catalog.
    """
    name = name.strip()
    if name in (BEFORE, ORIGINAL) and model.parent is None:
        raise BadInput(f"{model.name} was not edited", "there is no model before it", "Choose an edited model, or name another one", setting="against")
    if name == BEFORE or (not name and model.parent is not None):
        assert model.parent is not None
        return model.parent
    if name == ORIGINAL:
        while model.parent is not None:
            model = model.parent
        return model
    if not name and not data.oracles:
        raise BadInput("there is no second model", f"{model.name} was not edited, and has no oracle", "Name a model, such as scribe-b", setting="against")
    try:
        return catalog.load(name or data.oracles[0], str(model.device), allow_folders="SPACE_ID" not in os.environ, allow_download=False)
    except BadInput as error:
        raise BadInput(error.fault, error.cause, error.cure, setting="against") from error


def compared(settings: ComparedAttention, model: Model, data: Data) -> Iterator[Event]:
    """Yields the map where both read the same tokens, then the lines and the grid. A is the other model, B this one: B - A is what its edit did."""
    yield Progress(0, 0, "loading the other model")
    first = other(model, data, settings.against)
    sources = gathered(data, settings.texts, settings.segments, settings.most, settings.seed, setting="texts")
    cutting = Cutting(settings.segments, settings.marker, settings.first_apart, "texts")
    (ours, left), (theirs, gone) = (readable(m, data, sources, cutting) for m in (model, first))
    if len(ours) != len(theirs):
        raise BadInput("the two models cannot read the same texts", left or gone, "Leave these texts out", setting="texts")
    facts = (f"A: {first.name} · B: {model.name}", *([left] if left else []))
    wanted = resolved(model, settings.layer, settings.head, settings.variant, settings.mask_first)
    if ours[0].ids == theirs[0].ids:
        yield from gap(model, first, ours[0], wanted, facts)
    else:
        facts = (*facts, "they read other tokens, so there is no map of tokens")
    names = all_names(ours)
    pair = list(dict.fromkeys([*pairs(ours, names), *pairs([in_terms(t, names) for t in theirs], names)]))
    a = yield from last(intensities(first, [in_terms(t, names) for t in theirs], "texts", f"reading with {first.name}"))
    b = yield from last(intensities(model, [in_terms(t, names) for t in ours], "texts", f"reading with {model.name}"))
    a = Intensities(names, a.value[:, matched(b.value.shape[1], a.value.shape[1])])
    yield lines(a, b, pair, facts, ours)
    yield grid(a, b, pair, facts, ours)


def in_terms(text: Text, names: Sequence[str]) -> Text:
    """The text with its segments in another order. Raises `BadInput` where it has one that is not among `names`."""
    if set(text.names) - set(names):
        raise BadInput("the two models cut the texts into other segments", "their tokens differ", "Cut them in another way", setting="segments")
    return replace(text, names=tuple(names), of=tuple(names.index(text.names[i]) for i in text.of))


def matched(ours: int, theirs: int) -> list[int]:
    """For every layer of one model, that of the other at the same share of the depth."""
    return [round(i * (theirs - 1) / max(1, ours - 1)) for i in range(ours)]


def last(steps: Iterator[Progress | T]) -> Generator[Progress, None, T]:
    """Passes on how far it has come, and returns what was found at the end."""
    found: list[T] = []
    for step in steps:
        if isinstance(step, Progress):
            yield step
        else:
            found = [step]
    return found[0]


def gap(model: Model, first: Model, text: Text, wanted: Wanted, facts: tuple[str, ...]) -> Iterator[Event]:
    """The map of one less that of the other; the layer is matched, the head has one number in both."""
    theirs = resolved(first, matched(len(blocks(model.net)), len(blocks(first.net)))[wanted.layer], wanted.head, wanted.variant, wanted.masked)
    a = yield from last(look(first, text, theirs))
    b = yield from last(look(model, text, wanted))
    assert a.weight is not None and b.weight is not None
    alike = a.layers == b.layers and all(x.shape == y.shape for x, y in zip(a.entropy, b.entropy, strict=True))
    entropy, sink = ([y - x for x, y in zip(p, q, strict=True)] if alike else [np.full_like(y, np.nan) for y in q]
                     for p, q in ((a.entropy, b.entropy), (a.sink, b.sink)))
    weight = b.weight - a.weight
    difference = Seen(weight, b.layers, entropy, sink, ended=True)
    event = drawn(text, wanted, difference, len(blocks(model.net)), DIRECTION, title=f"B − A, layer {wanted.layer}: {text.name}")
    low, high = (np.unravel_index(int(f(weight)), weight.shape) for f in (np.nanargmin, np.nanargmax))
    told = [f"{text.tokens[q].strip()!r} reads {text.tokens[k].strip()!r} {weight[q, k]:+.3f}" for q, k in (high, low)]  # type: ignore[index]
    yield replace(event, diverging=True, unit=f"B − A: {UNITS[wanted.variant]}", facts=(*facts, f"furthest apart: {'; '.join(told)}"))


def lines(a: Intensities, b: Intensities, pair: Sequence[tuple[int, int]], facts: tuple[str, ...], texts: Sequence[Text]) -> Curves:
    """The three pairs of two segments that differ most, in both models."""
    gap, _ = mean_and_error(b.value - a.value)
    chosen = across(np.abs(gap), pair, 3)
    tables = [mean_and_error(x.value) for x in (a, b)]
    value, error = (np.array([t[part][:, p[0], p[1]] for p in chosen for t in tables]) for part in (0, 1))
    names = tuple(f"{model}: {label(a.names, p)}" for p in chosen for model in "AB")
    return Curves(f"Interaction intensity of two models: {title(texts)}", names, np.arange(value.shape[1], dtype=float), "layer", value, error, UNIT,
                  "higher: the first segment takes more of what it reads from the second", facts)


def grid(a: Intensities, b: Intensities, pair: Sequence[tuple[int, int]], facts: tuple[str, ...], texts: Sequence[Text]) -> Grid:
    """B - A of every pair in every layer; the error is that of the mean of paired differences."""
    mean, error = mean_and_error(b.value - a.value)
    p, q = np.array(pair).T
    mine, far = mean[:, p, q].T, error[:, p, q].T
    beyond = int((np.abs(np.nan_to_num(mine)) > 2 * np.nan_to_num(far, nan=np.inf)).sum())
    told = f"{beyond} of {int((~np.isnan(far)).sum())} cells lie beyond two standard errors; one in twenty does by chance" if len(texts) > 1 else "one text"
    return Grid(f"B − A: {title(texts)}", tuple(label(a.names, x) for x in pair), tuple(map(str, range(len(mean)))), "who → whom", "layer", mine, far,
                f"B − A: {UNIT}", DIRECTION, (*facts, told), diverging=True)
