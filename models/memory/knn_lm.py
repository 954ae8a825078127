"""kNN-LM: a store of what followed each hidden state, looked up by nearness, and mixed with what the language model says."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models.errors import BadInput


@dataclass(frozen=True)
class Store:
    """`keys[i]` is the state of the model before token `values[i]`, as its output layer sees it."""

    keys: Float[Tensor, "entries dim"]
    values: Int[Tensor, " entries"]

    @property
    def bytes(self) -> int:
        return sum(t.numel() * t.element_size() for t in (self.keys, self.values))


@dataclass(frozen=True)
class Neighbours:
    """Of each query the tokens that followed its nearest entries, and their shares, which sum to 1 in every row. A token may stand twice."""

    tokens: Int[Tensor, "queries near"]
    shares: Float[Tensor, "queries near"]

    def odds(self, vocabulary: int) -> Float[Tensor, "queries vocabulary"]:
        """p_kNN: 0 for every token that follows no neighbour."""
        return self.shares.new_zeros(len(self.shares), vocabulary).scatter_add(1, self.tokens, self.shares)

    def of(self, target: Int[Tensor, " queries"]) -> Float[Tensor, " queries"]:
        """p_kNN of one token of each query."""
        return (self.shares * (self.tokens == target[:, None])).sum(1)


def search(store: Store, queries: Float[Tensor, "queries dim"], near: int, temperature: float, own: Int[Tensor, " queries"] | None = None) -> Neighbours:
    """p_kNN(y) ~ sum over the `near` nearest entries that were followed by y of exp(-d / temperature), d the squared distance; exact search.

    `own[i]` is the entry that query i itself is, which is left out: a store must not answer with the very text that is asked. Raises `BadInput` where the store
    has no entry to find. Khandelwal et al. 2020, arXiv 1911.00172.
    """
    there = len(store.keys) - (own is not None)
    if there < 1:
        raise BadInput("the store is empty", "no text stands in it", "Put more text into the store", setting="near")
    size = store.keys.square().sum(1)
    far, at = [], []
    for part in range(0, len(queries), 512):
        q = queries[part : part + 512]
        distance = (q.square().sum(1, keepdim=True) + size - 2 * q @ store.keys.T).clamp(min=0)
        if own is not None:
            distance.scatter_(1, own[part : part + 512, None], torch.inf)
        found = distance.topk(min(near, there), largest=False)
        far.append(found.values)
        at.append(found.indices)
    return Neighbours(store.values[torch.cat(at)], (-torch.cat(far) / temperature).softmax(1))


def mixed(base: Float[Tensor, " tokens"], memory: Float[Tensor, " tokens"], share: float) -> Float[Tensor, " tokens"]:
    """Log-probabilities of (1 - share) p_LM + share p_memory, from those of the model; with `share` 0 they are the model's own."""
    if share == 0:
        return base
    return ((1 - share) * base.exp() + share * memory).clamp(min=1e-30).log()
