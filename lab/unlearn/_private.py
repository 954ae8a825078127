"""The weights that a run changes: private copies, or low-rank updates of matrices that stay shared."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from models.errors import BadInput
from models.model import Model, blocks, embedding

SMALL = 64 * 2**20  # bytes up to which a copy is worth making at every step


class Private:
    """`net` computes with the weights that are trained; nothing that it shares with `model` is ever written."""

    def __init__(self, model: Model, names: set[str] | None, rank: int, seed: int) -> None:
        self.model, self.rank = model, rank
        known = dict(model.net.named_parameters())
        half = model.dtype != torch.float32
        chosen = {n: p for n, p in known.items() if names is None or n in names or (half and not rank)}
        self.net: Any = model.skeleton() if rank else model.with_weights(chosen, via="training").net
        if half and not rank:
            self.net = self.net.float()  # all parameters are private here; steps as small as these are lost in half precision
        self.trained = self._adapters(names, seed) if rank else {
            n: p.requires_grad_() for n, p in self.net.named_parameters() if n in chosen and (names is None or n in names)}
        if not self.trained:
            raise BadInput("there is nothing to train", "no matrix of the blocks can take a low-rank update" if rank else "no such weights",
                           "Set lora to 0" if rank else "", setting="lora")
        self.start = {n: p.detach().clone() for n, p in self.trained.items()}
        self.layer = layers(model)

    def _adapters(self, names: set[str] | None, seed: int) -> dict[str, nn.Parameter]:
        chance, found = torch.Generator().manual_seed(seed), dict[str, nn.Parameter]()
        inside = {id(p) for block in blocks(self.net) for p in block.parameters()}
        for path, module in list(self.net.named_modules()):
            weight = getattr(module, "weight", None)
            if isinstance(weight, nn.Parameter) and weight.dim() == 2 and id(weight) in inside and (names is None or f"{path}.weight" in names):
                update = LowRank(weight, self.rank, chance)
                # an alias of its own: torch calls set_ on what it parametrizes, which is a write that a backward pass of another run on it would refuse
                module.weight = nn.Parameter(weight.data, requires_grad=False)
                parametrize.register_parametrization(module, "weight", update)
                found |= {f"{path}.weight a": update.a, f"{path}.weight b": update.b}
        return found

    @property
    def parameters(self) -> list[nn.Parameter]:
        return list(self.trained.values())

    @property
    def light(self) -> bool:
        """Whether the trained weights themselves are few."""
        return sum(p.numel() * p.element_size() for p in self.parameters) <= SMALL

    @property
    def small(self) -> bool:
        """Whether a snapshot is: with low-rank updates it holds the whole matrices that they are added to, not the updates."""
        old = dict(self.model.net.named_parameters())
        return sum(old[n].numel() * old[n].element_size() for n in (self._matrices if self.rank else self.trained)) <= SMALL

    def edits(self) -> dict[str, Tensor]:
        """Parameter name -> what it is now, of those that changed."""
        if not self.rank:
            return {n: p.detach() for n, p in self.trained.items()}
        old = dict(self.model.net.named_parameters())
        return {n: (old[n].float() + self._delta(n)).detach() for n in self._matrices}

    @property
    def _matrices(self) -> list[str]:
        return [n.removesuffix(" a") for n in self.trained if n.endswith(" a")]

    @torch.no_grad()
    def _delta(self, name: str) -> Tensor:
        return self.trained[f"{name} b"] @ self.trained[f"{name} a"]

    def frozen(self, via: str) -> Model:
        """The model as it is now; it shares what was not trained with the one that the run began with."""
        return self.model.with_weights(self.edits(), via)

    def keep(self) -> dict[str, Tensor]:
        return {n: p.detach().clone() for n, p in self.trained.items()}

    @torch.no_grad()
    def restore(self, kept: Mapping[str, Tensor]) -> None:
        for n, p in self.trained.items():
            p.copy_(kept[n])

    def finite(self) -> bool:
        """Whether every weight is a number. Their sum is not where one is not, and it is made in one pass."""
        return all(bool(torch.isfinite(p.sum())) for p in self.parameters)

    @torch.no_grad()
    def change(self) -> tuple[tuple[str, ...], list[float]]:
        """For every part of the net that is trained: the norm of what was added to it over the norm of what it was."""
        old, added, size = dict(self.model.net.named_parameters()), dict[str, float](), dict[str, float]()
        for name in self._matrices if self.rank else self.trained:
            part = self.layer.get(name, "rest")
            delta = self._delta(name) if self.rank else self.trained[name] - self.start[name]
            added[part] = added.get(part, 0.0) + float(delta.square().sum())
            size[part] = size.get(part, 0.0) + float(old[name].float().square().sum())
        return tuple(added), [math.sqrt(added[p] / size[p]) if size[p] else 0.0 for p in added]


class LowRank(nn.Module):
    """weight + b a, with a (rank, columns) drawn and b (rows, rank) zero at first, so that nothing has changed yet. Hu et al. 2021, arXiv 2106.09685."""

    def __init__(self, weight: Tensor, rank: int, chance: torch.Generator) -> None:
        super().__init__()
        rows, columns = weight.shape
        self.a = nn.Parameter((torch.randn(rank, columns, generator=chance) / math.sqrt(columns)).to(weight.device))
        self.b = nn.Parameter(torch.zeros(rows, rank, device=weight.device))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.b @ self.a).to(weight.dtype)


def layers(model: Model) -> dict[str, str]:
    """Parameter name -> the number of its block, or "embedding"."""
    place = {id(p): str(i) for i, block in enumerate(blocks(model.net)) for p in block.parameters()}
    table = {id(p) for p in embedding(model.net).parameters()}
    return {n: "embedding" if id(p) in table else place.get(id(p), "rest") for n, p in model.net.named_parameters()}
