"""Where in a block something can be read or put back: its output, its MLP's, its attention's, a head's, a neuron's.

Nothing here knows the name of an architecture. Attention is the child of a block that is called so; the MLP is the largest other child
that has weight matrices. What they give is what the last matrix of each gives, and its inputs are the heads and the neurons.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from models.errors import BadInput

BLOCK, MLP, ATTENTION, HEAD, NEURON, DENSE = "hidden", "mlp", "attention", "head", "neuron", "dense"
MISSING = {MLP: "no block of it has a part beside its attention with matrices of its own", ATTENTION: "its blocks mix tokens in another way",
           HEAD: "its blocks mix tokens in another way", NEURON: "its MLPs have no single matrix that neurons go into"}


@dataclass(frozen=True)
class Put:
    """`value` (rows, width of the part) stands in for what `rows` of a batch have at `position`, in `part` of the width."""

    rows: slice
    position: int
    value: Tensor
    part: slice = field(default_factory=lambda: slice(None))


@dataclass(frozen=True)
class Spared:
    """Positions of a batch (rows times positions, as one axis) that an MLP is not run on, because all that it gives there is known."""

    run: Tensor  # where the others are
    value: Tensor  # (spared, width): what it is taken to give
    order: Tensor  # where each position is found in the outputs of `run` with `value` behind them

    @classmethod
    def of(cls, spared: Tensor, value: Tensor) -> Spared:
        """`spared` (rows, positions) is true where `value`, in turn, stands in."""
        left, run = spared.flatten().nonzero()[:, 0], (~spared).flatten().nonzero()[:, 0]
        return cls(run, value, torch.cat([run, left]).argsort())


@dataclass
class Taps:
    """Hooks on a private net. They keep what passes the sites in `keep`, and put values there, and at the blocks' outputs, as `puts` says."""

    net: nn.Module
    stack: list[nn.Module]  # its blocks
    found: list[dict[str, nn.Module]]  # the sites of each: see `anatomy`
    keep: frozenset[str] = frozenset()
    kept: dict[tuple[str, int], Tensor] = field(default_factory=dict)  # (site, layer) -> (rows, tokens, width)
    puts: dict[tuple[str, int], list[Put]] = field(default_factory=dict)
    tokens: int = 0  # positions of the rows that run now, for modules that flatten rows and positions into one axis
    spared: dict[int, Spared] = field(default_factory=dict)  # layer -> where its MLP is not run
    hooks: list[Any] = field(default_factory=list)  # to be removed before the net serves another
    lean: set[int] = field(default_factory=set)  # layers whose MLP takes the positions and nothing else, so that one can be left out

    def __post_init__(self) -> None:
        for layer, (block, parts) in enumerate(zip(self.stack, self.found, strict=True)):
            self.hooks += [block.register_forward_pre_hook(self._count, with_kwargs=True), block.register_forward_hook(self._after(BLOCK, layer))]
            for site in (MLP, ATTENTION):
                if site in self.keep and (module := parts.get(site)) is not None:
                    self.hooks.append(module.register_forward_hook(self._after(site, layer)))
            if MLP in self.keep and (module := parts.get(DENSE)) is not None:
                self.hooks += [module.register_forward_pre_hook(self._leave_out(layer), with_kwargs=True),
                               module.register_forward_hook(self._fill_in(layer))]
            for site in (HEAD, NEURON):
                if site in self.keep and (module := parts.get(site)) is not None:
                    self.hooks.append(module.register_forward_pre_hook(self._before(site, layer)))

    def check(self, site: str, setting: str = "kind", cure: str = "Restore hidden states") -> None:
        """Raises `BadInput`, naming the setting to change, where no block has this site."""
        if site != BLOCK and not any(site in parts for parts in self.found):
            raise BadInput(f"{type(self.net).__name__} has no single {site} to restore", MISSING[site], cure, setting=setting)

    def _count(self, _: nn.Module, args: tuple, kwargs: dict) -> None:
        self.tokens = (args[0] if args else kwargs["hidden_states"]).shape[1]

    def _after(self, site: str, layer: int) -> Callable:
        def hook(_: nn.Module, args: Any, output: Any) -> Any:
            return with_state(output, self._pass(site, layer, state(output)))
        return hook

    def _before(self, site: str, layer: int) -> Callable:
        def hook(_: nn.Module, args: tuple) -> tuple:
            return (self._pass(site, layer, args[0]), *args[1:])
        return hook

    def _leave_out(self, layer: int) -> Callable:
        def hook(_: nn.Module, args: tuple, kwargs: dict) -> Any:
            if self.keep and len(args) == 1 and not kwargs and args[0].dim() == 3:
                self.lean.add(layer)
            return ((args[0].flatten(0, 1).index_select(0, self.spared[layer].run)[None],), {}) if layer in self.spared else None
        return hook

    def _fill_in(self, layer: int) -> Callable:
        def hook(_: nn.Module, args: tuple, output: Any) -> Any:
            if layer not in self.spared:
                return None
            known = self.spared[layer]
            return torch.cat([output[0], known.value.to(output)]).index_select(0, known.order).unflatten(0, (-1, self.tokens))
        return hook

    def _pass(self, site: str, layer: int, value: Tensor) -> Tensor:
        if site not in self.keep and (site, layer) not in self.puts:
            return value
        rows = value.reshape(-1, self.tokens, value.shape[-1])
        if site in self.keep:  # what goes on is a copy: some blocks add to it in place, and a gradient has to come back to what is kept
            self.kept[site, layer] = rows
            rows = rows.clone()
        elif (site, layer) in self.puts:
            rows = rows.clone()
        for put in self.puts.get((site, layer), ()):
            rows[put.rows, put.position, put.part] = put.value.to(rows)
        return rows.reshape(value.shape)


def anatomy(block: nn.Module, width: int) -> dict[str, nn.Module]:
    """Site -> the module whose output (attention, MLP) or input (head, neuron) it is, and the MLP as a whole; what the block has not is left out."""
    heavy = {n: m for n, m in block.named_children() if matrix_size(m)}
    attention = next((m for n, m in heavy.items() if is_attention(n, m)), None)
    # what is not attention; in a block without, the first part mixes tokens in another way
    others = [m for m in heavy.values() if m is not attention] if attention is not None else list(heavy.values())[1:]
    mlp = max(reversed(others), key=matrix_size) if others else None  # the last of equals: a block may hold the matrices itself
    head, neuron = last_matrix(attention, width), last_matrix(mlp, width)
    dense = mlp if neuron is not mlp and neuron is not None else None
    found = {ATTENTION: head or attention, MLP: neuron or mlp, HEAD: head, NEURON: neuron, DENSE: dense}  # a module may add the stream to what its matrix gives
    return {site: module for site, module in found.items() if module is not None}


def is_attention(name: str, module: nn.Module) -> bool:
    """Whether a child of a block is called so, by the block or by its class."""
    return "att" in f"{name} {type(module).__name__}".lower()


def last_matrix(module: nn.Module | None, width: int) -> nn.Module | None:
    """The last linear map within `module` that gives `width` numbers; None in a mixture of experts."""
    if module is None or any(p.dim() > 2 for p in module.parameters()) or any(isinstance(m, nn.ModuleList) for m in module.modules()):
        return None
    leaves = [m for m in module.modules() if not list(m.children()) and getattr(getattr(m, "weight", None), "ndim", 0) == 2]
    return next((m for m in reversed(leaves) if gives(m) == width), None)


def gives(matrix: Any) -> int:
    """How many numbers a linear map gives: GPT-2's keeps its matrix the other way round, and says so by `nf`."""
    return int(getattr(matrix, "nf", 0) or matrix.weight.shape[0])


def matrix_size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.dim() > 1)


def query_heads(net: nn.Module) -> int:
    """How many query heads an attention has; several may share keys and values."""
    config: Any = net.config
    return int(config.get_text_config(decoder=True).num_attention_heads)


def state(output: Any) -> Tensor:
    """The hidden state in what a module returned."""
    return output[0] if isinstance(output, tuple) else output


def with_state(output: Any, value: Tensor) -> Any:
    return (value, *output[1:]) if isinstance(output, tuple) else value
