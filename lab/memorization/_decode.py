"""Continuations of prompts, token by token with a cache of keys and values, many rows at once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from lab.memorization._rows import ROWS, positions
from models.model import Model

Pick = Callable[[Tensor], Tensor]  # (rows, vocabulary) logits -> (rows,) tokens
SLACK = 8  # tokens of padding that a row may get
ATTENDS = {"full_attention", "sliding_attention", "chunked_attention", "attention"}  # kinds of blocks that a mask keeps from the padding


def likeliest(logits: Tensor) -> Tensor:
    return logits.argmax(-1)


@torch.no_grad()
def continued(model: Model, prompts: Sequence[Sequence[int]], pick: Pick) -> Iterator[Tensor]:
    """(rows, tokens so far) after each further token, without end: the caller stops. Prompts of several lengths are padded on the left.

    A net that keeps no cache that it can be handed again (Mamba) reads the whole row for each token.
    """
    width = max(map(len, prompts))
    ids = torch.tensor([[*[0] * (width - len(p)), *p] for p in prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=model.device)
    known = inspect.signature(model.net.forward).parameters
    extra: dict[str, Any] = {"use_cache": True} if "past_key_values" in known else {}
    given, cache = ids, None
    while True:
        if bool((mask[:, 0] == 0).any()):
            extra |= {"attention_mask": mask, "position_ids": (mask.cumsum(1) - 1).clamp(min=0)[:, -given.shape[1] :]}
        out = model.net(input_ids=given, **extra | ({"past_key_values": cache} if cache is not None else {}))
        cache = getattr(out, "past_key_values", None) if extra else None
        new = pick(out.logits[:, -1].float())[:, None]
        ids, mask = torch.cat([ids, new], 1), torch.cat([mask, torch.ones_like(new)], 1)
        given = new if cache is not None else ids
        yield ids[:, width:]


def greedy(model: Model, prompts: Sequence[Sequence[int]], steps: Sequence[int]) -> Iterator[dict[int, list[int]]]:
    """The `steps[i]` tokens that greedy decoding adds to prompt i, by i; an empty step after each token so that a run can be stopped.

    Rows end with the model's positions, never at an end mark: what is said after it counts as said.
    """
    most = positions(model)
    for batch in alike(prompts, SLACK if pads(model) else 0):
        wanted = [max(0, min(steps[i], most - len(prompts[i]))) for i in batch]
        new = torch.empty(len(batch), 0, dtype=torch.long)
        grower = continued(model, [prompts[i] for i in batch], likeliest)
        for _ in range(max(wanted)):
            new = next(grower)
            yield {}
        yield {i: row[:n] for i, row, n in zip(batch, new.tolist(), wanted, strict=True)}


def pads(model: Model) -> bool:
    """Whether the net can be told where each row begins: it takes positions and a mask, and every block attends."""
    config: Any = model.net.config
    kinds = set(getattr(config.get_text_config(decoder=True), "layer_types", None) or ())
    return {"position_ids", "attention_mask", "past_key_values"} <= set(inspect.signature(model.net.forward).parameters) and kinds <= ATTENDS



def alike(prompts: Sequence[Sequence[int]], slack: int) -> Iterator[list[int]]:
    """Indices of prompts, up to `ROWS` of them, of which none is more than `slack` tokens longer than another; the shortest first."""
    batch: list[int] = []
    for i in sorted(range(len(prompts)), key=lambda i: len(prompts[i])):
        if batch and (len(batch) == ROWS or len(prompts[i]) > len(prompts[batch[0]]) + slack):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch
