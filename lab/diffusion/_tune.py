"""A denoiser that a run trains: its own copy of all weights, of which some are trained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from models.errors import BadInput
from models.model import Model
from models.pipeline import Pipeline

PART = "denoiser."


class Tuned:
    """`net` computes with the weights that are trained; nothing that it shares with `model` is ever written. Text encoder and VAE stay as they are."""

    def __init__(self, model: Model, lr: float, chosen: Sequence[str] | None = None) -> None:
        """`chosen`: names of the parameters to train, as in `model.net.named_parameters()`; None for all of the denoiser."""
        self.model = model
        mine = {n: p for n, p in model.net.named_parameters() if n.startswith(PART)}
        copied = model.with_weights(mine, via="training")
        self.net: Pipeline = copied.net  # type: ignore[assignment]
        self.net.denoiser.float()  # private all of it: steps as small as these are lost in half precision
        wanted = set(mine if chosen is None else chosen)
        # gradients of all of it, also of what is not trained: torch 2.13's backward on a CPU crashes where a block wants only some
        self.private: dict[str, Any] = {n: p.requires_grad_() for n, p in self.net.named_parameters() if n in mine}
        self.trained: dict[str, Any] = {n: p for n, p in self.private.items() if n in wanted}
        if not self.trained:
            raise BadInput("there is nothing to train", "no part of the denoiser goes by that name", "Choose other parts", setting="parts")
        self.start = {n: p.detach().clone() for n, p in self.trained.items()}
        self.adam = torch.optim.AdamW(self.trained.values(), lr, weight_decay=0.0)

    def step(self, loss: Tensor) -> bool:
        """One step of AdamW, the gradient's norm at most 1. Returns whether all weights are numbers."""
        for p in self.private.values():
            p.grad = None
        loss.backward()
        nn.utils.clip_grad_norm_(self.trained.values(), 1.0)
        self.adam.step()
        return all(bool(torch.isfinite(p.sum())) for p in self.trained.values())

    def frozen(self, via: str) -> Model:
        """The model as it is now; it shares what was not trained with the one that the run began with."""
        return self.model.with_weights({n: p.detach() for n, p in self.trained.items()}, via)

    def keep(self) -> dict[str, Tensor]:
        return {n: p.detach().clone() for n, p in self.trained.items()}

    @torch.no_grad()
    def restore(self, kept: dict[str, Tensor]) -> None:
        for n, p in self.trained.items():
            p.copy_(kept[n])

    @torch.no_grad()
    def change(self) -> tuple[tuple[str, ...], list[float]]:
        """For every part of the denoiser: the norm of what was added to its weights over the norm of these."""
        added, size = dict[str, float](), dict[str, float]()
        for name, now in self.trained.items():
            part = part_of(name)
            added[part] = added.get(part, 0.0) + float((now - self.start[name]).square().sum())
            size[part] = size.get(part, 0.0) + float(self.start[name].square().sum())
        return tuple(added), [math.sqrt(added[p] / size[p]) if size[p] else 0.0 for p in added]


def part_of(name: str) -> str:
    """The part of the denoiser that a parameter belongs to: down 1, mid, up 0, block 3, or rest."""
    pieces = name.removeprefix(PART).split(".")
    head = pieces[0].split("_")[0]
    if head == "mid":
        return "mid"
    if len(pieces) > 1 and pieces[1].isdigit():
        return f"{'block' if head == 'transformer' else head} {pieces[1]}"
    return "rest"


def parts(model: Model) -> dict[str, list[str]]:
    """Part of the denoiser -> the names of its parameters, in the order of the net."""
    found: dict[str, list[str]] = {}
    for name, _ in model.net.named_parameters():
        if name.startswith(PART):
            found.setdefault(part_of(name), []).append(name)
    return found


