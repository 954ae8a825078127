"""How much of a token is left later, and deeper: fidelity along the text and through the layers, from hidden states."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lab.events import Progress
from lab.recall._cells import start
from lab.recall._haystack import haystack
from lab.recall._material import Stock
from lab.recall._policies import Reader

ROWS, RIDGE = 8, 1e-2  # texts, half to fit and half to test; share of the mean variance that is added to each


@dataclass(frozen=True)
class Kept:
    """`horizontal[i]`: mean cosine between a token's embedding and what a linear map reads of it from the last layer's state `lags[i]` tokens later.
    `cosine[i]`: mean cosine of the last layer's states that far apart. `vertical[l]`: mean cosine between the state below block l and what a linear map
    reads of it from the last layer's, at the same token. Maps are fitted on half of the texts and tested on the others; all states have the mean of the
    fitted texts taken off, so that a constant guess has 0. Range -1 to 1, higher: more is left. NaN where the texts are too short.
    """

    horizontal: Float[np.ndarray, " lags"]
    cosine: Float[np.ndarray, " lags"]
    vertical: Float[np.ndarray, " layers"]


def kept(reader: Reader, stock: Stock, lags: Sequence[int], length: int, seed: int) -> Iterator[Progress | Kept]:
    """Reads general text; yields Progress in texts, then what was kept."""
    texts = [[*start(reader.model), *islice(haystack(reader.model, stock, f"layers {seed} {i}"), length)][:length] for i in range(ROWS)]
    states: list[tuple[Tensor, ...]] = []
    for i, text in enumerate(texts):
        _, layers = reader.states(torch.tensor([text], device=reader.model.device))
        states.append(tuple(layer[0].float().cpu() for layer in layers))
        yield Progress(i + 1, ROWS, "reading general text")
    depth = [torch.stack([s[layer] for s in states]) for layer in range(len(states[0]))]  # texts, tokens, width
    first, last = depth[0], depth[-1]
    horizontal, cosine = [], []
    for i, lag in enumerate(lags):
        fits = lag < length - 1
        horizontal.append(rebuilt(last[:, lag:], first[:, : length - lag]) if fits else np.nan)
        centred = last - last.mean((0, 1))
        cosine.append(float(torch.cosine_similarity(centred[:, lag:], centred[:, : length - lag], dim=-1).mean()) if fits else np.nan)
        yield Progress(i + 1, len(lags), "how much of a token is left")
    vertical = []
    for layer in depth[:-1]:
        vertical.append(rebuilt(last, layer))
        yield Progress(len(vertical), len(depth) - 1, "how much of lower layers is left")
    yield Kept(np.array(horizontal), np.array(cosine), np.array(vertical))


def rebuilt(source: Float[Tensor, "texts tokens width"], target: Float[Tensor, "texts tokens size"]) -> float:
    """Mean cosine between the targets of the second half of the texts and their ridge regression from the sources, fitted on the first half."""
    half = len(source) // 2
    x, y = (z[:half].flatten(0, 1).double() for z in (source, target))
    mean_x, mean_y = x.mean(0), y.mean(0)
    x, y = x - mean_x, y - mean_y
    gram = x.T @ x
    weights = torch.linalg.lstsq(gram + RIDGE * gram.diagonal().mean().clamp(min=1e-12) * torch.eye(len(gram), dtype=gram.dtype), x.T @ y).solution
    guess, truth = (source[half:].double() - mean_x) @ weights, target[half:].double() - mean_y
    return float(torch.cosine_similarity(guess, truth, dim=-1).mean())
