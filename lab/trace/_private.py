"""Private nets of a model, each with what was found out about it: to copy a net and to look it through takes as long as some cells do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

from lab.trace._fused import fused
from lab.trace._sites import anatomy, matrix_size
from models.model import Model, blocks

SPARE: WeakKeyDictionary[nn.Module, list[Private]] = WeakKeyDictionary()  # those of a model's net that no run uses now


@dataclass
class Private:
    """A copy of a net that shares its parameters, and may be given hooks by one run at a time."""

    net: nn.Module
    stack: list[nn.Module]  # its blocks
    parts: list[dict[str, nn.Module]]  # what each is made of: see `anatomy`
    sizes: list[int]  # numbers in the matrices of each
    chain: list[nn.Module] | None = None  # what runs after the last block, one after the other; empty where that is not all, None before it is known
    routers: list[nn.Module] | None = None  # what chooses experts; None before it is known


def borrow(model: Model) -> Private:
    """A private net without hooks. Raises `NotADecoder` as `blocks`."""
    idle = SPARE.setdefault(model.net, [])
    if idle:
        return idle.pop()
    net: Any = fused(model.skeleton())
    stack, width = list(blocks(net)), net.config.get_text_config(decoder=True).hidden_size
    return Private(net, stack, [anatomy(block, width) for block in stack], [matrix_size(block) for block in stack])


def give_back(model: Model, private: Private) -> None:
    """For the next prompt; whoever borrowed it has taken its hooks away."""
    SPARE.setdefault(model.net, []).append(private)
