"""How much of what a matrix does with an item lies where the loss of general text hardly bends.

The Fisher information of a matrix W is taken as the Kronecker product of A = E[a a'], of what goes in, and G = E[g g'], of the gradients of what comes
out (K-FAC), over tokens of general text, the labels drawn from what the model expects. In the eigenvectors U of G and V of A, W has the coefficients
C = U' W V, and C[i, j] the curvature lam_i mu_j. As few of the largest as hold `MASS` of the sum are the high part and the others the low part, as
Merullo et al. 2025, arXiv 2510.24256, split a matrix to edit it. They report, over sets of texts, that the low part answers more strongly to memorized
texts than to others.

The share of one item is this lab's interpretation: sum_t |W_low a_t|^2 / sum_t (|W_low a_t|^2 + |W_high a_t|^2) over the places t that predict the
tokens of its answer, averaged over the matrices; 0 to 1, and 1 where all of a matrix is low. The paper compares norms between two sets instead, edits
all three matrices of a late MLP, and draws labels where this takes noise of the same covariance.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lab.data import Data
from lab.memorization._rows import encode, positions
from models.model import Model
from models.organisms import prose
from models.organisms.corpus import HELD_OUT, held_out
from models.organisms.recipe import Recipe

MASS = 0.8  # of the curvature that the high part holds, as published
# where in the depth the first matrix is, and how many follow each other: late, a choice of ours (the authors' code reads 28 to 31 of 32 layers)
AT, LAYERS = 0.7, 3
WIDEST = 4096  # inputs of a matrix: its eigenvectors take the cube of that
TOKENS, PIECES = 64, 128  # of a piece of general text, and how many pieces


@dataclass(frozen=True)
class Spectrum:
    """One matrix in its basis of curvature: `basis` (in, in) are the eigenvectors of A in columns; `high` and `low` (out, in) add up to U' W V."""

    basis: Tensor
    high: Tensor
    low: Tensor

    def share(self, inputs: Float[Tensor, "rows tokens in"], counted: Tensor) -> Float[Tensor, " rows"]:
        """Of each row over the tokens where `counted` (rows, tokens) is True, 0 to 1; NaN where nothing comes out."""
        along = inputs.to(self.basis) @ self.basis
        low, high = (((along @ part.T).square().sum(-1) * counted).sum(1) for part in (self.low, self.high))
        return low / (low + high)


def spectrum(weight: Float[Tensor, "out in"], a: Float[Tensor, "in in"], g: Float[Tensor, "out out"], mass: float = MASS) -> Spectrum:
    """`mass`: as few of the largest products of eigenvalues as hold this share of their sum are high; 0 makes all of it low."""
    (mu, v), (lam, u) = torch.linalg.eigh(a), torch.linalg.eigh(g)
    curvature = torch.outer(lam.clamp(min=0), mu.clamp(min=0))
    order = curvature.flatten().argsort(descending=True)
    high = torch.zeros(curvature.numel(), dtype=torch.bool, device=curvature.device)
    falling = curvature.flatten()[order]
    high[order] = falling.cumsum(0) - falling < mass * curvature.sum()
    own = u.T @ weight.to(u) @ v
    chosen = high.view_as(own)
    return Spectrum(v.float(), (own * chosen).float(), (own * ~chosen).float())


def late(modules: Sequence[nn.Module]) -> list[int]:
    """Which of the blocks' last matrices are taken: some that follow each other, at `AT` of the depth; none where they are too wide."""
    first = min(int(AT * len(modules)), max(0, len(modules) - LAYERS))
    chosen = list(range(first, len(modules)))[:LAYERS]
    return [i for i in chosen if weight_of(modules[i]).shape[1] <= WIDEST]


def weight_of(module: nn.Module) -> Float[Tensor, "out in"]:
    weight = module.weight
    assert isinstance(weight, Tensor)
    return weight if isinstance(module, nn.Linear) else weight.T  # transformers' Conv1D holds it the other way


def general(model: Model, data: Data) -> Tensor:
    """(pieces, tokens): documents of general text that no organism has read, from the lab's own grammar, one after the other, cut into pieces."""
    recipe = (data.manifest or {}).get("recipe")
    texts = held_out(Recipe(**recipe)) if recipe else itertools.islice(prose.documents(0), HELD_OUT)
    length = min(TOKENS, positions(model))
    ids: list[int] = []
    for text in texts:
        ids += encode(model.tokenizer, text)
        if len(ids) >= PIECES * length:
            break
    return torch.tensor(ids[: len(ids) // length * length][: PIECES * length]).view(-1, length)


Pass = Callable[[Tensor], list[tuple[Tensor, Tensor]]]  # ids -> (what went in, gradient of what came out) (rows, tokens, width) of each matrix


def factors(ids: Tensor, through: Pass, rows: int) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Yields the factors (A, G) of each matrix over the tokens so far, in double precision; the last are the result."""
    total: list[tuple[Tensor, Tensor]] = []
    for batch in ids.split(rows):
        found = [(a.flatten(0, 1).double(), g.flatten(0, 1).double()) for a, g in through(batch)]
        new = [(a.T @ a, g.T @ g) for a, g in found]
        total = [(x + p, y + q) for (x, y), (p, q) in zip(total, new, strict=True)] if total else new
        yield total
