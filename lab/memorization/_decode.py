"""Continuations of prompts, token by token with a cache of keys and values, many rows at once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from lab.memorization._rows import ROWS, positions
from models.model import Model

Pick = Callable[[Tensor], Tensor]  # (rows, vocabulary) logits -> (rows,) tokens


def likeliest(logits: Tensor) -> Tensor:
    return logits.argmax(-1)


@torch.no_grad()
def continued(model: Model, ids: Tensor, pick: Pick) -> Iterator[Tensor]:
    """(rows, grown) ids after each further token, without end: the caller stops. Rows are of one length, so nothing is padded.

    A net that keeps no keys and values (Mamba) reads the whole row again for each token.
    """
    given, cache = ids, None
    while True:
        out = model.net(input_ids=given, past_key_values=cache, use_cache=True) if cache is not None else model.net(input_ids=ids, **_fresh(model))
        cache = getattr(out, "past_key_values", None)
        given = pick(out.logits[:, -1].float())[:, None]
        ids = torch.cat([ids, given], 1)
        yield ids


def _fresh(model: Model) -> dict[str, bool]:
    return {"use_cache": "past_key_values" in inspect.signature(model.net.forward).parameters}


def greedy(model: Model, prompts: Sequence[Sequence[int]], steps: Sequence[int]) -> Iterator[dict[int, list[int]]]:
    """The `steps[i]` tokens that greedy decoding adds to prompt i, by i; an empty step after each token so that a run can be stopped.

    Rows end with the model's positions, never at an end mark: what is said after it counts as said.
    """
    most = positions(model)
    for batch in alike(prompts):
        wanted = [max(0, min(steps[i], most - len(prompts[i]))) for i in batch]
        ids = torch.tensor([list(prompts[i]) for i in batch], device=model.device)
        width = ids.shape[1]
        grower = continued(model, ids, likeliest)
        for _ in range(max(wanted)):
            ids = next(grower)
            yield {}
        said = ids[:, width:].tolist()
        yield {i: row[:n] for i, row, n in zip(batch, said, wanted, strict=True)}


def alike(prompts: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Indices of prompts of one length together, up to `ROWS` of them. Padding on the left would need positions that not every net takes."""
    by_length: dict[int, list[int]] = {}
    for i, prompt in enumerate(prompts):
        by_length.setdefault(len(prompt), []).append(i)
    for _, group in sorted(by_length.items()):
        yield from (group[j : j + ROWS] for j in range(0, len(group), ROWS))
