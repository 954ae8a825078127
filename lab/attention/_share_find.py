"""Where a net makes its keys and values: the rows of which matrix belong to which head. Found by following gradients, not by names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lab.attention._head_read import outlets
from models.attention import KEY, PATTERN, VALUE, Watch
from models.errors import BadInput
from models.model import Model, blocks

TOKENS = 5
PARTS = {"keys": KEY, "values": VALUE}


@dataclass(frozen=True)
class Projection:
    """The matrix `name` makes the keys (or values) of a layer; head g's are its outputs `channels[g]`. `turned`: it is kept as (inputs, outputs)."""

    name: str
    channels: Int[Tensor, "heads size"]
    turned: bool

    @property
    def heads(self) -> int:
        return len(self.channels)

    def rows(self, weight: Tensor) -> Float[Tensor, "heads size inputs"]:
        """Of a matrix as it is kept, each head's part."""
        return (weight.T if self.turned else weight)[self.channels]

    def put(self, weight: Tensor, rows: Float[Tensor, "heads size inputs"]) -> None:
        """Writes each head's part into `weight`, a copy that is the caller's own."""
        (weight.T if self.turned else weight)[self.channels] = rows.to(weight)


@dataclass(frozen=True)
class Layer:
    """Keys and values of one layer, and the matrix that reads what its heads give.

    `outlet` is empty where something stands between the values and that matrix, so that it cannot make up for a change of the values.
    """

    keys: Projection
    values: Projection
    outlet: str
    outlet_turned: bool

    def part(self, name: str) -> Projection:
        return self.keys if name == "keys" else self.values


def find(model: Model) -> dict[int, Layer]:
    """Every layer whose keys and values come from one matrix each, or both from one. Raises `BadInput` with the reason where there is none."""
    net = model.skeleton()
    watch = Watch(net, frozenset({KEY, VALUE, PATTERN}))
    names = {id(m): n for n, m in net.named_modules()}
    made: dict[str, Tensor] = {}
    for block in blocks(net):
        for m in block.modules():
            if not list(m.children()) and getattr(getattr(m, "weight", None), "ndim", 0) == 2:
                m.register_forward_hook(_begin(made, names[id(m)]))
    enters: dict[int, Tensor] = {}
    matrices = outlets(net)
    for i, matrix in enumerate(matrices):
        if matrix is not None:
            matrix.register_forward_pre_hook(_note(enters, i))
    caller: Any = net
    with torch.enable_grad():
        caller(input_ids=torch.arange(TOKENS, device=model.device)[None], use_cache=False)
    if not watch.kept:
        raise _unfit(net, "its attention does not go through the interface of transformers")
    found, why = {}, ""
    for i, matrix in enumerate(matrices):
        if (KEY, i) not in watch.kept:
            continue
        both = {part: _projection(net, made, watch.kept[kind, i], names[id(blocks(net)[i])]) for part, kind in PARTS.items()}
        faults = [one for one in both.values() if isinstance(one, str)]
        if faults:
            why = faults[0]
        else:
            plain = matrix is not None and i in enters and _plain(watch, i, made[both["values"].name], both["values"], enters[i])
            found[i] = Layer(both["keys"], both["values"], names[id(matrix)] if plain else "", hasattr(matrix, "nf"))
    if not found:
        raise _unfit(net, why)
    if all(layer.keys.heads == 1 for layer in found.values()):
        raise BadInput(f"{type(net).__name__} has one head of keys and values", "all its query heads share it already", "Choose another model", setting="model")
    return found


def _begin(made: dict[str, Tensor], name: str) -> Any:
    """A graph begins at what each matrix gives, so that it reaches back no further."""
    def hook(_: nn.Module, args: Any, output: Tensor) -> Tensor:
        made[name] = output.detach().requires_grad_()
        return made[name]
    return hook


def _note(enters: dict[int, Tensor], layer: int) -> Any:
    def hook(_: nn.Module, args: Any) -> None:
        enters[layer] = args[0].detach()
    return hook


def _projection(net: nn.Module, made: dict[str, Tensor], value: Tensor, block: str) -> Any:
    """The projection that makes `value` (1, heads, tokens, size), or why there is none. `block` is the name of its block."""
    mine = {n: t for n, t in made.items() if n.startswith(f"{block}.")}
    generator, touched = torch.Generator().manual_seed(0), []
    for head in range(value.shape[1]):
        weight = torch.randn(value[:, head].shape, generator=generator).to(value)
        grads = torch.autograd.grad((value[:, head] * weight).sum(), list(mine.values()), retain_graph=True, allow_unused=True)
        touched.append({n: g.flatten(0, -2).abs().sum(0).nonzero().flatten() for n, g in zip(mine, grads, strict=True) if g is not None and g.any()})
    heads, size = value.shape[1], value.shape[3]
    if any(len(t) != 1 for t in touched) or len({next(iter(t), "") for t in touched}) != 1:
        return "its keys or values come from several matrices, or from none"
    name = next(iter(touched[0]))
    sets = [t[name] for t in touched]
    if all(len(s) == heads * size for s in sets):  # a norm over all heads lets each see the others
        sets = list(sets[0].reshape(heads, size))
    if any(len(s) != size for s in sets) or len(torch.cat(sets).unique()) != heads * size:
        return "its heads mix before they attend"
    return Projection(name, torch.stack(sets).cpu(), hasattr(net.get_submodule(name), "nf"))


def _plain(watch: Watch, layer: int, output: Tensor, projection: Projection, enters: Tensor) -> bool:
    """Whether values are what their matrix gives, and go, mixed by the pattern alone, into the last matrix."""
    value, pattern = watch.kept[VALUE, layer], watch.kept[PATTERN, layer]
    given = output.reshape(1, TOKENS, -1)[..., projection.channels].transpose(1, 2)
    mixed = (pattern @ value.repeat_interleave(pattern.shape[1] // value.shape[1], 1)).transpose(1, 2).flatten(2)
    return torch.allclose(given, value, atol=1e-5) and mixed.shape[-1] == enters.shape[-1] and torch.allclose(mixed, enters.reshape(mixed.shape), atol=1e-5)


def _unfit(net: nn.Module, why: str) -> BadInput:
    return BadInput(f"heads of {type(net).__name__} cannot be fused", why, "Choose another model", setting="model")
