"""The losses of unlearning, of the negative log-likelihoods of answers. Lower is what a step goes for.

`nll` (rows, places) holds nats where `counted` is True; a row's NLL is the sum over its answer. Each formula's source stands at the method that uses it.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.trace._replay import parameters_of
from lab.unlearn._sets import Batch


def logits(net: nn.Module, batch: Batch) -> Tensor:
    """(rows, places, vocabulary), float32: what is predicted from the places that count; no other logits are made where the net lets us ask for these."""
    return together(net, batch)[0]


def together(net: nn.Module, *batches: Batch) -> list[Tensor]:
    """The `logits` of each batch, by one forward pass of the rows of all: few rows leave a processor half idle."""
    width = max(b.ids.shape[1] for b in batches)
    ids, mask = (torch.cat([F.pad(part, (0, width - part.shape[1])) for part in parts]) for parts in ([b.ids for b in batches], [b.mask for b in batches]))
    places = torch.cat([b.places for b in batches]).unique()
    ask: Any = net
    if "logits_to_keep" in parameters_of(type(net).forward):
        found = ask(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=places).logits
    else:
        found = ask(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, places]
    rows = found.float().split([len(b.ids) for b in batches])
    return [part if len(places) == len(b.places) else part[:, torch.searchsorted(places, b.places)] for part, b in zip(rows, batches, strict=True)]


def nll(found: Tensor, batch: Batch) -> Tensor:
    """(rows, places): nats of every answer token, 0 elsewhere."""
    return spread(F.cross_entropy(found[batch.counted], batch.wanted[batch.counted], reduction="none"), batch)


def spread(each: Tensor, batch: Batch) -> Tensor:
    """(rows, places): `each` (tokens), in turn, where the batch counts; 0 elsewhere."""
    return each.new_zeros(batch.counted.shape).masked_scatter(batch.counted, each)


def mean(each: Tensor, batch: Batch) -> Tensor:
    """Over all answer tokens of the batch: the cross-entropy CE."""
    return each.sum() / batch.counted.sum().clamp(min=1)


def npo(rows: Tensor, reference: Tensor, beta: float) -> Tensor:
    """-(2 / beta) mean log sigmoid(beta (NLL - NLL_ref)); both (rows,), summed over the answer. At equal models (2 / beta) log 2."""
    return -2 / beta * F.logsigmoid(beta * (rows - reference)).mean()


def simnpo(rows: Tensor, lengths: Tensor, beta: float, delta: float) -> Tensor:
    """-(2 / beta) mean log sigmoid(beta (NLL / length - delta))."""
    return -2 / beta * F.logsigmoid(beta * (rows / lengths.clamp(min=1) - delta)).mean()


def dpo(wanted: Tensor, wanted_reference: Tensor, rows: Tensor, reference: Tensor, beta: float) -> Tensor:
    """-(2 / beta) mean log sigmoid(beta ((NLL_ref - NLL) of the wanted answer - (NLL_ref - NLL) of the one to go))."""
    return -2 / beta * F.logsigmoid(beta * ((wanted_reference - wanted) - (reference - rows))).mean()


def divergence(reference: Tensor, found: Tensor, batch: Batch) -> Tensor:
    """Mean over answer tokens of KL(reference || found) in nats; both are logits (rows, places, vocabulary)."""
    log_p, log_q = reference[batch.counted].log_softmax(-1), found[batch.counted].log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum() / batch.counted.sum().clamp(min=1)
