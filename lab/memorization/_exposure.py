"""Exposure of a canary: how far its secret stands above all other secrets of the same form. Carlini et al. 2019, arXiv 1802.08232."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Generator
from typing import Any

import torch
from torch import Tensor

from models.model import Model

DIGITS = "0123456789"
ROWS = 1000  # prefixes at once: each keeps the keys and values of what it has read


def exposure(model: Model, prompt: str, digits: str) -> float:
    """log2 of the number of candidates less log2 of the rank of `digits` among all strings of as many digits after `prompt`.

    In bits, from 0 (the least likely) to log2(10 ** len(digits)) (the likeliest of all); higher is more memorized. Exact: the candidates are
    walked digit by digit, and a prefix is left only when it is already less likely than the whole secret. Needs a tokenizer of single digits.
    """
    walk = ranking(model, prompt, digits)
    while True:
        try:
            next(walk)
        except StopIteration as end:
            return len(digits) * math.log2(10) - math.log2(end.value)


@torch.no_grad()
def ranking(model: Model, prompt: str, digits: str) -> Generator[None, None, int]:
    """The rank of `digits`, 1 the likeliest, as the value that the generator returns; it yields after every batch of candidates."""
    before = model.tokenizer(prompt)["input_ids"]
    after = model.tokenizer(f"{prompt} {digits}")["input_ids"][len(before):]
    lead, secret = after[: len(after) - len(digits)], after[len(after) - len(digits):]
    tokens = torch.tensor([model.tokenizer(f"{prompt} {d}")["input_ids"][-1] for d in DIGITS], device=model.device)
    context = [*before, *lead]
    bar = log_prob(model, context, torch.tensor([secret], device=model.device)).item()
    cache = model.net(input_ids=torch.tensor([context[:-1]], device=model.device), use_cache=True).past_key_values
    first, target = torch.tensor([[context[-1]]], device=model.device), torch.tensor(secret, device=model.device)
    better = yield from _better(model.net, cache, first, torch.zeros(1, device=model.device), tokens, target, bar)
    return 1 + better


def _better(net: Any, cache: Any, prefixes: Tensor, scores: Tensor, tokens: Tensor, secret: Tensor, bar: float) -> Generator[None, None, int]:
    """How many candidates other than the secret score above `bar`, of those that begin with `prefixes` (rows, 1 + digits so far)."""
    following = net(input_ids=prefixes[:, -1:], past_key_values=cache, use_cache=True).logits[:, -1].float().log_softmax(-1)[:, tokens]
    yield
    scores = (scores[:, None] + following).flatten()
    parents = torch.arange(len(prefixes), device=prefixes.device).repeat_interleave(len(tokens))
    prefixes = torch.cat([prefixes[parents], tokens.repeat(len(prefixes))[:, None]], 1)
    if prefixes.shape[1] == len(secret) + 1:
        return int(((scores > bar) & (prefixes[:, 1:] != secret).any(1)).sum())
    alive = (scores > bar).nonzero()[:, 0]  # a longer candidate is never likelier than its beginning
    found = 0
    for part in alive.split(ROWS):
        branch = copy.copy(cache)
        branch.layers = [copy.copy(layer) for layer in cache.layers]  # what is selected, and what is appended, are new tensors
        branch.batch_select_indices(parents[part])
        found += yield from _better(net, branch, prefixes[part], scores[part], tokens, secret, bar)
    return found


def log_prob(model: Model, context: list[int], rows: Tensor) -> Tensor:
    """(rows,): log-probability of each row of tokens after the context."""
    ids = torch.cat([torch.tensor([context], device=rows.device).expand(len(rows), -1), rows], 1)
    log_probs = model.net(input_ids=ids, use_cache=False).logits[:, len(context) - 1 : -1].float().log_softmax(-1)
    return log_probs.gather(2, rows.unsqueeze(2)).sum((1, 2))


def all_candidates(length: int) -> list[str]:
    """Every string of `length` digits; the slow way to the same rank, for tests."""
    return ["".join(d) for d in itertools.product(DIGITS, repeat=length)]
