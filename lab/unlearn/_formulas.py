"""The losses of unlearning, of the negative log-likelihoods of answers. Lower is what a step goes for.

`nll` (rows, places) holds nats where `counted` is True; a row's NLL is the sum over its answer. Each formula's source stands at the method that uses it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.trace._replay import parameters_of
from lab.unlearn._sets import Batch

FORWARD = 125  # tokens whose work is that of one more forward pass: a line through the times of 176 to 1,408 tokens, scribe, two threads (one: about none)


def logits(net: nn.Module, batch: Batch) -> Tensor:
    """(tokens, vocabulary), float32: what is predicted where the batch counts, row by row; few other logits are made where the net lets us ask for these."""
    return together(net, batch)[0]


def together(net: nn.Module, *batches: Batch) -> list[Tensor]:
    """The `logits` of each batch, by one forward pass of the rows of all: few rows leave a processor half idle. Rows far longer than the others go apart."""
    width = max(b.ids.shape[1] for b in batches)
    ids, mask = (torch.cat([F.pad(part, (0, width - part.shape[1])) for part in parts]) for parts in ([b.ids for b in batches], [b.mask for b in batches]))
    counted = torch.zeros_like(mask, dtype=torch.bool)
    start = 0
    for b in batches:
        counted[start : start + len(b.ids), b.places] = b.counted
        start += len(b.ids)
    lengths = mask.sum(1)
    limit = cut(lengths.tolist()) if ids.device.type == "cpu" else width
    if limit == width:
        found = _counted(net, ids, mask, counted)
    else:
        parts = [lengths <= limit, lengths > limit]
        widths = [limit, width]
        found = torch.cat([_counted(net, ids[rows, :w], mask[rows, :w], counted[rows, :w]) for rows, w in zip(parts, widths, strict=True)])
        found = found[torch.cat([(counted & rows[:, None]).flatten().nonzero()[:, 0] for rows in parts]).argsort()]
    return list(found.split([int(b.counted.sum()) for b in batches]))


def cut(lengths: Sequence[int]) -> int:
    """How long the rows may be that go through the net together, padded; the longer ones go apart. The longest length where one pass is cheapest."""
    rows, longest = sorted(lengths), max(lengths)
    apart = [(k * rows[k - 1] + (len(rows) - k) * longest + FORWARD, rows[k - 1]) for k in range(1, len(rows)) if rows[k - 1] < longest]
    return min([*apart, (len(rows) * longest, longest)])[1]


def _counted(net: Any, ids: Tensor, mask: Tensor, counted: Tensor) -> Tensor:
    """The logits at the places that count, float32."""
    places = counted.any(0).nonzero()[:, 0]
    if "logits_to_keep" in parameters_of(type(net).forward):
        found = net(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=places).logits
    else:
        found = net(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, places]
    return found[counted[:, places]].float()


def nll(found: Tensor, batch: Batch) -> Tensor:
    """(rows, places): nats of every answer token, 0 elsewhere."""
    return spread(F.cross_entropy(found, batch.wanted[batch.counted], reduction="none"), batch)


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


def divergence(reference: Tensor, found: Tensor) -> Tensor:
    """Mean over answer tokens of KL(reference || found) in nats; both are logits (tokens, vocabulary)."""
    log_p, log_q = reference.log_softmax(-1), found.log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum() / max(1, len(found))
