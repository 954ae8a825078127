"""Trains a net of both tasks further on one of them: all weights, or low-rank adapters that both modalities share, or one set for each.

MoDE (Wei et al. 2025, arXiv 2512.03125): adapters on the MLPs alone, a mixture of experts for words and one adapter for pictures, and a distillation loss that
keeps what the net says of the other task. Its control is replay: the true answers of the same rows, with the same weight.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from models.organisms.interleave.aia import open_patterns
from models.organisms.interleave.tokens import CLOSE, FIRST_CELL, FIRST_WORD, OPEN, SPECIAL, Rows

WAYS = ("all weights", "shared adapters", "shared adapters, replayed", "shared adapters, distilled", "decoupled adapters", "decoupled adapters, distilled")
RANK, ALPHA, EXPERTS = 8, 16.0, 4
KEEP, WARMTH = 0.3, 2.0  # weight of the distillation loss, and the temperature of its logits


@dataclass
class Kinds:
    """Which tokens of the batch that runs now belong to pictures: bool (rows, tokens)."""

    picture: Tensor

    def read(self, ids: Tensor) -> None:
        self.picture = ((ids >= FIRST_CELL) & (ids < FIRST_WORD)) | (ids == SPECIAL.index(OPEN)) | (ids == SPECIAL.index(CLOSE))


class Adapted(nn.Module):
    """`base(x)` and a low-rank part on top: zero at first. `experts` share the words' part by a softmax router; with one there is no router."""

    def __init__(self, base: nn.Linear, kinds: Kinds, decoupled: bool, generator: torch.Generator) -> None:
        super().__init__()
        self.base, self.kinds, self.decoupled = base, kinds, decoupled
        count = 1 + EXPERTS if decoupled else 1  # the first one is the pictures', or everybody's

        def drawn(*shape: int) -> nn.Parameter:
            return nn.Parameter((torch.rand(*shape, generator=generator) * 2 - 1) / math.sqrt(base.in_features))

        self.down = drawn(count, RANK, base.in_features)
        self.up = nn.Parameter(torch.zeros(count, base.out_features, RANK))
        self.router = drawn(EXPERTS, base.in_features) if decoupled else None

    def forward(self, x: Tensor) -> Tensor:
        low = (x @ self.down.flatten(0, 1).T).unflatten(-1, (-1, RANK))  # (rows, tokens, experts, rank)
        if self.router is not None:
            picture = self.kinds.picture[..., None].to(x.dtype)
            low = low * torch.cat([picture, (1 - picture) * (x @ self.router.T).softmax(-1)], -1)[..., None]
        return self.base(x) + low.flatten(-2) @ self.up.transpose(1, 2).flatten(0, 1) * (ALPHA / RANK)


class Tuner:
    """`step()` trains on one batch of `rows`; `other` are rows of the other task, for distillation and replay alone. `net` itself is not touched."""

    def __init__(self, net: Any, way: str, rows: Rows, other: Rows, *, lr: float, batch: int = 16, seed: int = 0) -> None:
        self.teacher, self.way, self.rows, self.other, self.batch = net, way, rows, other, batch
        self.net: Any = copy.deepcopy(net).requires_grad_(way == WAYS[0])
        self.random, self.kinds = torch.Generator().manual_seed(seed), Kinds(torch.empty(0))
        open_patterns(self.net)
        if way != WAYS[0]:
            for block in self.net.model.layers:
                for name in ("gate_proj", "up_proj", "down_proj"):
                    setattr(block.mlp, name, Adapted(getattr(block.mlp, name), self.kinds, way.startswith("decoupled"), self.random))
        self.net.register_forward_pre_hook(lambda _, args, kwargs: self.kinds.read(kwargs["input_ids"]), with_kwargs=True)
        self.optimizer = torch.optim.AdamW([p for p in self.net.parameters() if p.requires_grad], lr=lr, weight_decay=0.0)

    def draw(self, these: Rows) -> Rows:
        return these.take(torch.randperm(len(these.ids), generator=self.random)[: self.batch])

    def step(self) -> float:
        """Returns the loss of the task that is trained, in nats an answer token."""
        loss = total = answered(self.net, self.draw(self.rows))
        if self.way.endswith("distilled"):
            total = loss + KEEP * distance(self.teacher, self.net, self.draw(self.other))
        elif self.way.endswith("replayed"):
            total = loss + KEEP * answered(self.net, self.draw(self.other))
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        self.optimizer.step()
        return loss.item()


def answered(net: Any, batch: Rows) -> Tensor:
    """Mean loss of the answer tokens, in nats."""
    kept = batch.answer[:, 1:]
    return nn.functional.cross_entropy(net(input_ids=batch.ids, use_cache=False).logits[:, :-1][kept], batch.ids[:, 1:][kept])


def distance(teacher: Any, student: Any, batch: Rows) -> Tensor:
    """KL(teacher || student) over answer tokens, in nats, times the temperature squared, over the whole vocabulary: it is small."""
    kept = batch.answer[:, 1:]
    with torch.no_grad():
        before = (teacher(input_ids=batch.ids, use_cache=False).logits[:, :-1][kept] / WARMTH).log_softmax(-1)
    now = (student(input_ids=batch.ids, use_cache=False).logits[:, :-1][kept] / WARMTH).log_softmax(-1)
    return nn.functional.kl_div(now, before, log_target=True, reduction="batchmean") * WARMTH**2


def conflict(net: Any, batches: list[tuple[Rows, Rows]], forward: Callable[[Any, Rows], tuple[Tensor, Tensor]]) -> Tensor:
    """(batches, layers): cosine, -1 to 1, of the gradients of the losses of two tasks, over all weights of a layer; below 0 they pull apart."""
    own: Any = copy.deepcopy(net).requires_grad_(True)
    open_patterns(own)
    found = []
    for pair in batches:
        grads = []
        for batch in pair:
            own.zero_grad(set_to_none=True)
            forward(own, batch)[0].backward()
            grads.append([torch.cat([p.grad.flatten() for p in block.parameters()]) for block in own.model.layers])
        found.append(torch.stack([nn.functional.cosine_similarity(a, b, dim=0) for a, b in zip(*grads, strict=True)]))
    return torch.stack(found)
