"""One teacher-forced pass over rows of tokens: what the model gave to every token, and whether that was its likeliest one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lab.memorization._rows import Row, batches, padded, vocabulary
from models.model import Model

NEVER = -1e4  # log-probability of a word that a net rules out: nothing is infinite
LEAST = 1e-3  # of a standard deviation: where all words are alike, the rounding of their sum is not taken for a difference


@dataclass(frozen=True)
class Reading:
    """Of every token of a row but the first. `z` is (log p - mean) / standard deviation of the log-probability over the vocabulary under p."""

    start: int  # where in these arrays the answer begins: one before its place in the row
    log_prob: Float[np.ndarray, " tokens"]  # nats
    hit: Bool[np.ndarray, " tokens"]
    z: Float[np.ndarray, " tokens"]

    @property
    def answer(self) -> Float[np.ndarray, " answer"]:
        return self.log_prob[self.start :]


@torch.no_grad()
def read(model: Model, rows: Sequence[Row]) -> Iterator[dict[int, Reading]]:
    """The reading of every row by its index, batch after batch, the shortest rows first."""
    for batch in batches([len(r.ids) for r in rows], vocabulary(model)):
        ids, mask = padded([rows[i].ids for i in batch], model.device)
        logits = model.net(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1].float()
        log_prob, hit, z = (x.cpu().numpy() for x in scores(logits, ids[:, 1:]))
        yield {i: Reading(rows[i].start - 1, log_prob[j, :n], hit[j, :n], z[j, :n]) for j, i in enumerate(batch) if (n := len(rows[i].ids) - 1) >= 0}


def scores(logits: Tensor, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(rows, tokens) each: log-probability, whether the token is the likeliest, and z, from (rows, tokens, vocabulary) logits."""
    log_probs = logits.log_softmax(-1).clamp_(min=NEVER)
    mine = log_probs.gather(2, ids.unsqueeze(2))[..., 0]
    weighted = log_probs.exp().mul_(log_probs)
    mean = weighted.sum(-1)
    square = torch.einsum("btv,btv->bt", weighted, log_probs)
    spread = (square - mean.square()).clamp(min=0).sqrt()
    return mine, logits.argmax(-1) == ids, (mine - mean) / spread.clamp(min=LEAST)
