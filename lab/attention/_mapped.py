"""The map of one head: read in one forward, with what every head of every layer does in short."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lab.attention._inputs import Cutting, Text, tokenized
from lab.attention._read import Attended, fits, heads_of, read
from lab.attention._segments import Source
from lab.attention._weights import after_first, carried, entropy, merged, parts, rolled, without_first
from lab.data import Data
from lab.events import AttentionMap, Event, Progress
from models.errors import BadInput
from models.model import Model, blocks

if TYPE_CHECKING:
    from lab.attention.map import TokenMap

RAW, VALUE, ROLLOUT = "raw", "value-weighted", "rollout"
LONG = 64  # tokens of a map: more are drawn as parts, beside a window of so many at most
WINDOW = 48
UNITS = {RAW: "share of the query's attention", VALUE: "norm of what the head adds to the query from this key (residual stream)",
         ROLLOUT: "share of the query's state that came from this token, rolled out"}


@dataclass(frozen=True)
class Wanted:
    """Which map: of `head` (-1: the mean over heads) of `layer`, in a variant, the first token counted as a key or not."""

    layer: int
    head: int
    variant: str
    masked: bool


@dataclass
class Seen:
    """What a forward showed so far. `weight` (tokens, tokens) is the map that was wanted, None before its layer has run."""

    weight: Float[np.ndarray, "queries keys"] | None = None
    layers: list[int] = field(default_factory=list)
    entropy: list[np.ndarray] = field(default_factory=list)
    sink: list[np.ndarray] = field(default_factory=list)
    ended: bool = False  # whether all layers have run


def resolved(model: Model, layer: int, head: int, variant: str, masked: bool) -> Wanted:
    """Raises `BadInput` where there is no such layer or head. A layer may be counted from the end; a rollout is over all heads."""
    depth, heads = len(blocks(model.net)), heads_of(model)
    if not -depth <= layer < depth:
        raise BadInput(f"there is no layer {layer}", f"{model.name} has {depth}", f"Choose 0 to {depth - 1}, or -1 for the last", setting="layer")
    if head >= heads:
        raise BadInput(f"there is no head {head}", f"{model.name} has {heads} in a layer", f"Choose 0 to {heads - 1}, or -1 for their mean", setting="head")
    return Wanted(layer % depth, -1 if variant == ROLLOUT else head, variant, masked)


def look(model: Model, text: Text, wanted: Wanted) -> Iterator[Progress | Seen]:
    """Yields what was seen when the wanted layer has run, and when all have. Raises `BadInput` where that layer does not attend."""
    depth, seen, said = len(blocks(model.net)), Seen(), fits(model, len(text.ids), "prompt")
    yield Progress(0, depth, said)
    roll: Tensor | None = None
    length = torch.tensor([len(text.ids)], device=model.device)
    for found in read(model, torch.tensor([text.ids], device=model.device)):
        if found is None:
            yield Progress(len(seen.layers), depth, said)
            continue
        pattern = found.pattern
        seen.layers.append(found.layer)
        seen.entropy.append(after_first(entropy(pattern), length)[0].cpu().numpy())
        seen.sink.append(after_first(pattern[..., 0], length)[0].cpu().numpy())
        if wanted.variant == ROLLOUT and found.layer <= wanted.layer:
            roll = rolled((without_first(pattern[0]) if wanted.masked else pattern[0]).nanmean(0), roll)
        if found.layer == wanted.layer:
            seen.weight = (roll if roll is not None else shown(found, wanted)).double().cpu().numpy()
            if wanted.masked:
                seen.weight[0] = np.nan  # the first token reads nothing that is counted
            del found, pattern
            yield seen
        yield Progress(len(seen.layers), depth, said)
    if seen.weight is None:
        raise BadInput(f"layer {wanted.layer} does not attend", "it mixes tokens in another way", f"Choose one of {', '.join(map(str, seen.layers))}",
                       setting="layer")
    seen.ended = True
    yield seen


def shown(found: Attended, wanted: Wanted) -> Tensor:
    """(queries, keys) of one head, or the mean over heads: raw, or weighted by what the values carry.

    Where the first token is not counted, raw rows are made to sum to one over the others; value-weighted ones are norms and stay as they are.
    """
    pattern = found.pattern[0]
    heads = slice(None) if wanted.head < 0 else slice(wanted.head, wanted.head + 1)
    if wanted.variant == RAW:
        return (without_first(pattern[heads]) if wanted.masked else pattern[heads]).nanmean(0)
    norm = carried(values(found), found.out)[heads]  # type: ignore[arg-type]
    weight = (pattern[heads] * norm[:, None]).mean(0)
    if wanted.masked:
        weight[:, 0] = 0
    return weight


def values(found: Attended) -> Tensor:
    """(heads of keys and values, tokens, size). Raises `BadInput` where the values, or the matrix behind them, are not all that makes the output."""
    pattern, value = found.pattern, found.value
    if value is not None and found.mixed is not None and found.out is not None:
        groups = pattern.shape[1] // value.shape[1]
        again = (pattern @ value.float().repeat_interleave(groups, 1)).transpose(1, 2).flatten(2)
        tolerance = 1e-4 if value.dtype == torch.float32 else 5e-2
        if again.shape == found.mixed.shape and torch.allclose(again, found.mixed.float(), tolerance, tolerance * float(again.abs().max())):
            return value[0]
    raise BadInput("the values of this model's attention cannot be seen", "it does more with them than mix them, or does it in a way of its own",
                   "Look at raw weights", setting="variant")


def drawn(text: Text, wanted: Wanted, seen: Seen, depth: int, direction: str, at: tuple[int, int] = (-1, -1), title: str = "",
          facts: tuple[str, ...] = ()) -> AttentionMap:
    """The event of what was seen; layers that have not run yet have no entropy. `at` is the query and the key on which the window of a long text lies."""
    assert seen.weight is not None
    pieces = parts(len(text.ids), LONG)
    long = len(pieces) < len(text.ids)
    begin = corner(at, len(text.ids)) if long else (0, 0)
    detail = seen.weight[begin[0] : begin[0] + WINDOW, begin[1] : begin[1] + WINDOW].copy() if long else np.zeros(0)
    weight = seen.weight.copy()
    if wanted.masked:
        weight[:, 0] = 0 if long else np.nan
    rest = [] if seen.ended else list(range(max(seen.layers) + 1, depth))
    tables = [np.vstack([*table, *[np.full_like(table[0], np.nan)] * len(rest)]).astype(float) for table in (seen.entropy, seen.sink)]
    head = "mean over heads" if wanted.head < 0 else f"head {wanted.head}"
    where = f"layers 0 to {wanted.layer}, {head}" if wanted.variant == ROLLOUT else f"layer {wanted.layer}, {head}"
    return AttentionMap(
        title or f"{where}: {wanted.variant}", text.tokens, pieces, merged(weight, pieces), detail, begin, wanted.layer, wanted.head, wanted.variant,
        wanted.masked, UNITS[wanted.variant], direction, text.names, text.of, (*seen.layers, *rest), tables[0], tables[1],
        facts=(*told(text, wanted, seen), *facts))


def corner(at: tuple[int, int], tokens: int) -> tuple[int, int]:
    """The first query and key of a window around a token: -1 is the last query, and for a key, the query's own place."""
    query = at[0] % tokens
    key = query if at[1] < 0 else at[1]
    return tuple(max(0, min(place - WINDOW // 2, tokens - WINDOW)) for place in (query, key))  # type: ignore[return-value]


def told(text: Text, wanted: Wanted, seen: Seen) -> tuple[str, ...]:
    """What the map shows, in words."""
    assert seen.weight is not None
    row = seen.layers.index(wanted.layer)
    heads = slice(None) if wanted.head < 0 else slice(wanted.head, wanted.head + 1)
    lines = [f"entropy {np.nanmean(seen.entropy[row][heads]):.2f} nats; {np.nanmean(seen.sink[row][heads]):.0%} of it rests on the first token"]
    if wanted.masked:
        lines.append("the first token is not counted" + ("" if wanted.variant == VALUE else "; the shares of the others sum to one"))
    last = np.nan_to_num(seen.weight[-1])
    best = [int(k) for k in np.argsort(-last, kind="stable")[:3] if last[k] > 0]
    lines.append(f"the last token reads {', '.join(f'{text.tokens[k].strip()!r} {last[k]:.2f}' for k in best)}")
    return tuple(lines)


def mapped(settings: TokenMap, model: Model, data: Data) -> Iterator[Event]:
    """Yields the map as soon as its layer has run, and again when every layer's heads are known."""
    yield Progress(0, 0, "reading the text")
    prompt, answer = settings.prompt.strip("\n"), settings.answer.strip()
    source = Source("this text", f"{prompt} {answer}" if answer else prompt, len(prompt) if answer else 0)
    text = tokenized(model, data, source, Cutting(settings.segments, settings.marker, False, "prompt"))
    for name, place in (("query", settings.query), ("key", settings.key)):
        if not -1 <= place < len(text.ids):
            raise BadInput(f"there is no token {place}", f"the text has {len(text.ids)}", "0 is the first", setting=name)
    wanted = resolved(model, settings.layer, settings.head, settings.variant, settings.mask_first)
    facts = ("rollout takes all heads",) if wanted.variant == ROLLOUT and settings.head >= 0 else ()
    for found in look(model, text, wanted):
        yield found if isinstance(found, Progress) else drawn(text, wanted, found, len(blocks(model.net)), settings.direction,
                                                               (settings.query, settings.key), facts=facts)
