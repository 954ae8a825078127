"""Interaction intensities of many texts: by layer, for every ordered pair of segments."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lab.attention._inputs import Text, all_names
from lab.attention._read import Attended, batched, fits, heads_of, read
from lab.attention._weights import by_segment
from lab.events import Progress
from lab.memorization._rows import padded
from models.model import Model, blocks

Reduce = Callable[[Attended, list[int], Tensor, Tensor], None]  # a layer, which texts its rows are, their ids, their lengths


@dataclass
class Intensities:
    """`value[n, l, a, b]` is I_l(a -> b) of text n, mean over heads and over the queries of segment a; NaN where it has none, or was not read yet.

    Layers that do not attend stay NaN.
    """

    names: tuple[str, ...]
    value: Float[np.ndarray, "texts layers segments segments"]

    def mean(self) -> tuple[Float[np.ndarray, "layers segments segments"], Float[np.ndarray, "layers segments segments"]]:
        return mean_and_error(self.value)


def mean_and_error(value: Float[np.ndarray, "texts ..."]) -> tuple[Float[np.ndarray, "*more"], Float[np.ndarray, "*more"]]:
    """Mean over the texts that have a value, and its standard error; NaN where none has, for the error where only one has."""
    count = (~np.isnan(value)).sum(0)
    mean = np.divide(np.nansum(value, 0), count, out=np.full(value.shape[1:], np.nan), where=count > 0)
    squares = np.nansum((value - mean) ** 2, 0)
    variance = np.divide(squares, count - 1, out=np.full(value.shape[1:], np.nan), where=count > 1)
    return mean, np.sqrt(variance / np.maximum(count, 1))


def passes(model: Model, texts: Sequence[Text], setting: str, reduce: Reduce, note: str = "") -> Iterator[Progress | list[int]]:
    """Reads all texts, batch after batch, and gives every layer to `reduce`. Yields which texts are done after every batch, `Progress` in between."""
    heads, depth = heads_of(model), len(blocks(model.net))
    said = fits(model, max(len(t.ids) for t in texts), setting)
    yield Progress(0, len(texts), said)
    done = 0
    for batch in batched([len(t.ids) for t in texts], heads):
        ids, mask = padded([texts[i].ids for i in batch], model.device)
        length = torch.tensor([len(texts[i].ids) for i in batch], device=model.device)
        layer = 0
        for found in read(model, ids, mask):
            if found is not None:
                reduce(found, batch, ids, length)
                layer = found.layer + 1
                del found
            yield Progress(int(100 * (done + len(batch) * layer / depth)), 100 * len(texts), note or said)
        done += len(batch)
        yield batch


def members(texts: Sequence[Text], names: Sequence[str], width: int, device: torch.device) -> Tensor:
    """(texts, width): of each token the place of its segment in `names`, -1 for padding."""
    rows = [[names.index(t.names[i]) for i in t.of] for t in texts]
    return torch.tensor([[*row, *[-1] * (width - len(row))] for row in rows], device=device)


def intensities(model: Model, texts: Sequence[Text], setting: str, note: str = "") -> Iterator[Progress | Intensities]:
    """Yields all that is known after every batch."""
    names = all_names(texts)
    found = Intensities(names, np.full((len(texts), len(blocks(model.net)), len(names), len(names)), np.nan))

    def reduce(layer: Attended, batch: list[int], ids: Tensor, length: Tensor) -> None:
        of = members([texts[i] for i in batch], names, ids.shape[1], ids.device)
        found.value[batch, layer.layer] = by_segment(layer.pattern, of, len(names)).mean(1).double().cpu().numpy()

    for step in passes(model, texts, setting, reduce, note):
        yield step if isinstance(step, Progress) else found


def pairs(texts: Sequence[Text], names: Sequence[str]) -> list[tuple[int, int]]:
    """The ordered pairs (a, b) where in some text a token of a can read one of b, which comes no later. The first token reads itself alone: it has none."""
    found = set()
    for text in texts:
        known = [names.index(n) for n in text.names]
        first: dict[int, int] = {}
        last: dict[int, int] = {}
        for t, s in enumerate(text.of):
            first.setdefault(known[s], t)
            last[known[s]] = t
        found |= {(a, b) for a in first for b in first if first[b] <= last[a] and last[a] > 0}
    return sorted(found)
