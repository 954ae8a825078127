"""Intensities as figures: a grid of all pairs by layer, lines of a few, and the bands that they should lie in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from lab.attention._inputs import Cutting, Text, all_names, gathered, readable
from lab.attention._many import Intensities, intensities, pairs
from lab.attention._read import heads_of
from lab.attention._target import Target, chosen, huber, targets
from lab.data import Data
from lab.events import Curves, Event, Grid, Progress
from models.model import Model, blocks

if TYPE_CHECKING:
    from lab.attention.intensity import Intensity

LINES = 6  # that can be told apart
UNIT = "share of the attention, mean over heads and queries"


def measured(settings: Intensity, model: Model, data: Data) -> Iterator[Event]:
    """Yields the lines and the grid after every batch of texts."""
    yield Progress(0, 0, "reading the texts")
    sources = gathered(data, settings.texts, settings.segments, settings.most, settings.seed, setting="texts")
    texts, left = readable(model, data, sources, Cutting(settings.segments, settings.marker, settings.first_apart, "texts"))
    names = all_names(texts)
    wanted, picked = targets(settings.target, names, len(blocks(model.net))), chosen(settings.lines, names)
    for found in intensities(model, texts, "texts"):
        if isinstance(found, Progress):
            yield found
            continue
        facts = said(found, texts, heads_of(model), left)
        yield lines(found, texts, picked, wanted, facts, settings.direction)
        yield grid(found, texts, facts, settings.direction)


def said(found: Intensities, texts: Sequence[Text], heads: int, left: str) -> tuple[str, ...]:
    """Over how much the mean is, and what is left out."""
    done = int((~np.isnan(found.value).all((1, 2, 3))).sum())
    return (f"{done} of {len(texts)} texts, {heads} heads; ± is the standard error over texts",
            "from one segment to all others and itself the shares sum to one; pairs that causality rules out are left out", *([left] if left else []))


def label(names: Sequence[str], pair: tuple[int, int]) -> str:
    return f"{names[pair[0]]} → {names[pair[1]]}"


def grid(found: Intensities, texts: Sequence[Text], facts: tuple[str, ...], direction: str) -> Grid:
    """A row for every ordered pair, a column for every layer."""
    mean, error = found.mean()
    rows = pairs(texts, found.names)
    a, b = np.array(rows).T
    return Grid(f"Interaction intensity: {title(texts)}", tuple(label(found.names, p) for p in rows), tuple(map(str, range(len(mean)))), "who → whom", "layer",
                mean[:, a, b].T, error[:, a, b].T, UNIT, direction, facts)


def title(texts: Sequence[Text]) -> str:
    name = texts[0].name.replace("\n", " ")
    return f"{name if len(name) <= 40 else name[:39] + '…'}" + (f" and {len(texts) - 1} more" if len(texts) > 1 else "")


def across(mean: Float[np.ndarray, "layers segments segments"], rows: Sequence[tuple[int, int]], count: int) -> list[tuple[int, int]]:
    """The pairs of two different segments whose intensity is largest in some layer, in their order."""
    two = [p for p in rows if p[0] != p[1]] or list(rows)
    strongest = sorted(two, key=lambda p: -np.nan_to_num(mean[:, p[0], p[1]]).max())[:count]
    return [p for p in rows if p in strongest]


def lines(found: Intensities, texts: Sequence[Text], picked: Sequence[tuple[int, int]], wanted: Sequence[Target], facts: tuple[str, ...],
          direction: str) -> Curves:
    """A line a pair; a target is a line in the middle of its band, and what the band says of the pair is a fact."""
    mean, error = found.mean()
    depth, aimed = len(mean), list(dict.fromkeys(t.pair for t in wanted))
    rows = list(dict.fromkeys([*aimed, *(picked or across(mean, pairs(texts, found.names), max(1, LINES - 2 * len(aimed))))]))
    value, bands = [mean[:, a, b] for a, b in rows], [error[:, a, b] for a, b in rows]
    names = [label(found.names, p) for p in rows]
    for pair in aimed:
        middle, half = np.full(depth, np.nan), np.full(depth, np.nan)
        for t in (t for t in wanted if t.pair == pair):
            middle[slice(*t.layers)], half[slice(*t.layers)] = (t.low + t.high) / 2, (t.high - t.low) / 2
        names.append(f"target {label(found.names, pair)}")
        value.append(middle)
        bands.append(half)
    met = tuple(kept(t, mean[slice(*t.layers), t.pair[0], t.pair[1]], label(found.names, t.pair)) for t in wanted)
    return Curves(f"Interaction intensity: {title(texts)}", tuple(names), np.arange(depth, dtype=float), "layer", np.array(value), np.array(bands), UNIT,
                  direction, (*met, *facts))


def kept(target: Target, intensity: Float[np.ndarray, " layers"], name: str) -> str:
    """Where a band is met, in words."""
    known = intensity[~np.isnan(intensity)]
    inside = int(((known >= target.low) & (known <= target.high)).sum())
    return f"{name}: {inside} of {len(known)} layers lie in {target.low:g} to {target.high:g}; Huber loss {huber(known, target.low, target.high):.4f}" \
        if len(known) else f"{name}: not read yet"
