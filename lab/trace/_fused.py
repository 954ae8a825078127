"""Activations done while the matrix before them is multiplied, in a private net on a processor: the same function, to rounding, and one pass less.

No architecture is known by name. An MLP is tried both ways on random numbers, and left as it was unless both give the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from transformers.activations import NewGELUActivation
from transformers.pytorch_utils import Conv1D

ROWS, CLOSE = 128, 1e-5  # for how many rows the matrix is laid out; how close both ways have to be, in parts of the largest number
PLAINLY: ContextVar[bool] = ContextVar("PLAINLY", default=False)


@contextmanager
def plainly() -> Iterator[None]:
    """Within it every module does its own work: what a check compares with must not use what it checks."""
    before = PLAINLY.set(True)
    try:
        yield
    finally:
        PLAINLY.reset(before)


def apart() -> bool:
    """Whether modules do their own work now: one step has no derivative."""
    return PLAINLY.get() or torch.is_grad_enabled()


def fused(net: nn.Module) -> nn.Module:
    """The net, a private one, with activations in one operation that its checkpoint spells out in five, and with that one in the product before it."""
    for parent in net.modules():
        for name, child in parent.named_children():
            if isinstance(child, NewGELUActivation):
                setattr(parent, name, nn.GELU(approximate="tanh"))
    if torch.backends.mkldnn.is_available():
        for parent in net.modules():
            _join(parent)
    return net


def _join(mlp: nn.Module) -> None:
    """Joins the first matrix of an MLP with the activation, if that changes nothing of what the MLP gives."""
    parts = list(mlp.children())
    matrix: Any = next((m for m in parts if isinstance(m, (nn.Linear, Conv1D))), None)
    activation: Any = next((m for m in parts if isinstance(m, nn.GELU)), None)
    if matrix is None or activation is None or any(list(m.children()) for m in parts) or not _suits(matrix):
        return
    flat = matrix.weight if isinstance(matrix, nn.Linear) else matrix.weight.t()
    sample = torch.randn(1, 4, flat.shape[1], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        try:
            with plainly():
                expected = mlp(sample)
            _together(matrix, activation, flat)
            found = mlp(sample)
        except (RuntimeError, TypeError):  # it is called with something else, or is no MLP
            found = None
        if found is None or not torch.allclose(found, expected, rtol=0, atol=CLOSE * float(expected.abs().max())):
            matrix.__dict__.pop("forward", None)
            activation.__dict__.pop("forward", None)


def _suits(matrix: Any) -> bool:
    """A matrix in memory, in full precision, that nobody else hangs on."""
    hooks = matrix._forward_hooks or matrix._forward_pre_hooks or "forward" in matrix.__dict__
    return not hooks and matrix.weight.dtype == torch.float32 and matrix.weight.device.type == "cpu"


def _together(matrix: Any, activation: nn.GELU, flat: Tensor) -> None:
    """Lets the matrix do the activation's work too, and the activation none."""
    laid_out = torch.ops.mkldnn._reorder_linear_weight(flat.detach().contiguous(), ROWS)
    bias, kind, by_matrix, by_activation = matrix.bias, activation.approximate, matrix.forward, activation.forward

    def both(rows: Tensor) -> Tensor:
        return by_matrix(rows) if apart() else torch.ops.mkldnn._linear_pointwise(rows, laid_out, bias, "gelu", [], kind)

    matrix.__dict__["forward"] = both
    activation.__dict__["forward"] = lambda rows: by_activation(rows) if apart() else rows
