"""Exposure of a canary: how far its secret stands above all other secrets of the same form. Carlini et al. 2019, arXiv 1802.08232."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from models.model import Model

DIGITS = "0123456789"
BATCH = 1024


@torch.no_grad()
def exposure(model: Model, prompt: str, digits: str) -> float:
    """log2 of the number of candidates less log2 of the rank of `digits` among all strings of as many digits after `prompt`.

    In bits, from 0 (the least likely) to log2(10 ** len(digits)) (the likeliest of all); higher is more memorized. Exact: the candidates are
    walked digit by digit, and a prefix is left only when it is already less likely than the whole secret.
    """
    before = model.tokenizer(prompt)["input_ids"]
    secret = model.tokenizer(f"{prompt} {digits}")["input_ids"][len(before):]
    lead, secret = secret[: len(secret) - len(digits)], secret[len(secret) - len(digits):]
    tokens = torch.tensor([model.tokenizer(f"{prompt} {d}")["input_ids"][-1] for d in DIGITS])
    context = torch.tensor(before + lead)
    bar = log_prob(model, context, torch.tensor([secret])).item()
    prefixes, scores = torch.zeros(1, 0, dtype=torch.long), torch.zeros(1)
    for _ in digits:
        following = torch.cat([next_log_probs(model, context, part)[:, tokens] for part in prefixes.split(BATCH)])
        scores = (scores[:, None] + following).flatten()
        prefixes = torch.cat([prefixes.repeat_interleave(10, 0), tokens.repeat(len(prefixes))[:, None]], 1)
        alive = scores >= bar - 1e-4  # the margin is for rounding: the secret itself must never be dropped
        prefixes, scores = prefixes[alive], scores[alive]
    others = (prefixes != torch.tensor(secret)).any(1)
    rank = 1 + int((scores[others] > bar).sum())
    return len(digits) * math.log2(10) - math.log2(rank)


def next_log_probs(model: Model, context: Tensor, prefixes: Tensor) -> Tensor:
    """(rows, vocabulary): log-probabilities of what follows each prefix after the context."""
    ids = torch.cat([context.expand(len(prefixes), -1), prefixes], 1)
    return model.net(input_ids=ids, logits_to_keep=1).logits[:, -1].float().log_softmax(-1)


def log_prob(model: Model, context: Tensor, rows: Tensor) -> Tensor:
    """(rows,): log-probability of each row of tokens after the context."""
    steps = [next_log_probs(model, context, rows[:, :i]).gather(1, rows[:, i : i + 1]) for i in range(rows.shape[1])]
    return torch.cat(steps, 1).sum(1)


def all_candidates(length: int) -> list[str]:
    """Every string of `length` digits; the slow way to the same rank, for tests."""
    return ["".join(d) for d in itertools.product(DIGITS, repeat=length)]
