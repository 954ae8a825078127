"""A model in which groups of heads share their keys or values, and what comes out of the matrices that are fused."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lab.attention._share_alike import PRIOR, Groups, basis
from lab.attention._share_find import PARTS, Layer, Projection
from lab.memorization._rows import Row
from lab.ruler._answers import batches, forward
from models.model import Model

Key = tuple[str, int]  # part, layer


@dataclass
class Outputs:
    """Sums over tokens of what a projection gives: y, and y y', in float64."""

    total: Tensor
    square: Tensor
    count: int = 0

    def moments(self, heads: int, centred: bool) -> Float[Tensor, "heads size heads size"]:
        mean = self.total / max(1, self.count)
        square = self.square - self.count * mean[:, None] * mean if centred else self.square
        return square.reshape(heads, -1, heads, len(mean) // heads)


def outputs(model: Model, layers: Mapping[int, Layer], rows: Sequence[Row]) -> Generator[None, None, dict[Key, Outputs]]:
    """What every projection of keys and values gives on the tokens of `rows`. Yields between batches."""
    net, found = model.skeleton(), dict[Key, Outputs]()
    real: list[Tensor] = []
    for layer, parts in layers.items():
        for part in PARTS:
            one = parts.part(part)
            n = one.channels.numel()
            found[part, layer] = Outputs(torch.zeros(n, dtype=torch.float64), torch.zeros(n, n, dtype=torch.float64))
            net.get_submodule(one.name).register_forward_hook(_adding(found[part, layer], one, real))
    for index in batches(net, rows):
        width = max(len(rows[i].ids) for i in index)
        real[:] = [torch.tensor([[t < len(rows[i].ids) for t in range(width)] for i in index])]
        forward(net, [rows[i].ids for i in index])
        yield
    return found


def _adding(into: Outputs, one: Projection, real: list[Tensor]) -> Any:
    def hook(_: Any, args: Any, output: Tensor) -> None:
        y = output.reshape(-1, output.shape[-1])[real[0].flatten().to(output.device)][:, one.channels.flatten()].double().cpu()
        into.total += y.sum(0)
        into.square += y.T @ y
        into.count += len(y)
    return hook


def weights(model: Model, one: Projection) -> Float[Tensor, "heads size inputs"]:
    return one.rows(model.net.get_parameter(f"{one.name}.weight").detach()).double().cpu()


def weight_moments(model: Model, one: Projection) -> Float[Tensor, "heads size heads size"]:
    """W_i W_j' of the heads: what their outputs would have if all inputs were independent and alike."""
    rows = weights(model, one)
    return torch.einsum("icn,jdn->icjd", rows, rows)


def fused(model: Model, layers: Mapping[int, Layer], groups: Mapping[Key, Groups], seen: Mapping[Key, Outputs] | None) -> Model:
    """The model with the heads of each group fused: the mean of their weights or, for values where `seen` is given, in least squares."""
    edits: dict[str, Tensor] = {}

    def own(name: str) -> Tensor:
        return edits.setdefault(name, model.net.get_parameter(name).detach().clone())

    for (part, layer), several in groups.items():
        if all(len(group) == 1 for group in several):
            continue
        one, rows = layers[layer].part(part), weights(model, layers[layer].part(part))
        biased = getattr(model.net.get_submodule(one.name), "bias", None) is not None
        bias = model.net.get_parameter(f"{one.name}.bias").detach()[one.channels].double().cpu() if biased else rows[..., 0] * 0
        for group in (g for g in several if len(g) > 1):
            mix = _mixed(model, layers[layer], seen, layer, group, own) if part == "values" and seen is not None else _mean(len(group), rows.shape[1])
            rows[group] = torch.einsum("hck,hcn->kn", mix, rows[group])
            bias[group] = torch.einsum("hck,hc->k", mix, bias[group])
        one.put(own(f"{one.name}.weight"), rows)
        if biased:
            own(f"{one.name}.bias")[one.channels] = bias.to(own(f"{one.name}.bias"))
    return model.with_weights(edits, "heads fused") if edits else model


def _mean(heads: int, size: int) -> Float[Tensor, "heads size kept"]:
    return torch.eye(size, dtype=torch.float64).expand(heads, size, size) / heads


def _mixed(model: Model, parts: Layer, seen: Mapping[Key, Outputs], layer: int, group: list[int], own: Any) -> Float[Tensor, "heads size kept"]:
    """How values of a group are mixed into one; the outlet is made to take each head's own values out of it again."""
    one = parts.values
    moments = seen["values", layer].moments(one.heads, centred=False)[group][:, :, group]
    prior = weight_moments(model, one)[group][:, :, group]
    scale = float(torch.einsum("icic->", moments) / torch.einsum("icic->", prior).clamp(min=1e-30))
    mix = basis(moments + PRIOR * scale * prior)
    outlet, size = own(f"{parts.outlet}.weight"), one.channels.shape[1]
    columns = outlet.T if not parts.outlet_turned else outlet  # (heads * size, width), a view
    shared = columns.shape[0] // size // one.heads
    for head, turn in zip(group, mix, strict=True):
        for query in range(head * shared, (head + 1) * shared):
            mine = slice(query * size, (query + 1) * size)
            columns[mine] = (turn.T @ columns[mine].double().cpu()).to(columns)
    return mix
