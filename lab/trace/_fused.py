"""Products made cheaper in a private net on a processor: the same numbers, to rounding.

A product of few rows spends much of its time on bringing the matrix into the order that it is read in, so matrices are brought into it once, for
oneDNN. And the activation after a matrix is done while its product is made, which is one pass less. No architecture is known by name: a matrix is
tried both ways on the first rows that it gets, an MLP on random numbers, and each is left as it was unless both ways give the same.
oneDNN adds up in one go what MKL adds up in parts, and so rounds more: matrices that take many numbers are left to MKL but for heads, which gain most
and are cut into short sums. With all matrices laid out, probabilities of GPT-2 small were off by 2.9e-6 in place of 1.7e-6 (root mean square).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary
from transformers.activations import NewGELUActivation
from transformers.pytorch_utils import Conv1D

ROWS, CLOSE = 128, 1e-5  # for how many rows the matrix is laid out; how close both ways have to be, in parts of the largest number
SHORT, HEAD, CHAIN = 256, 8, 128  # what a short matrix takes; a head gives so many times more than it takes; products of a head summed in one go
MOST = 256 * 2**20  # bytes of matrices of one net that are laid out, the largest first
LAID_OUT: Any = WeakTensorKeyDictionary()  # weight -> how many parts -> they, as they are read: all private nets that have the weight share them
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
    """The net, a private one, with activations in one operation that its checkpoint spells out in five, and that one in the product before it.

    Other matrices are laid out when they are first needed, so that a net which only gives derivatives waits for none.
    """
    for parent in net.modules():
        for name, child in parent.named_children():
            if isinstance(child, NewGELUActivation):
                setattr(parent, name, nn.GELU(approximate="tanh"))
    if torch.backends.mkldnn.is_available():
        for parent in net.modules():
            _join(parent)
        left, matrices = MOST, [m for m in net.modules() if isinstance(m, (nn.Linear, Conv1D)) and _suits(m) and _gains(m)]
        for matrix in sorted(matrices, key=lambda m: -m.weight.nbytes):
            if matrix.weight.nbytes <= left:
                left -= matrix.weight.nbytes
                matrix.__dict__["forward"] = _in_order(matrix)
    return net


def _join(mlp: nn.Module) -> None:
    """Joins the first matrix of an MLP with the activation, if that changes nothing of what the MLP gives."""
    parts = list(mlp.children())
    matrix: Any = next((m for m in parts if isinstance(m, (nn.Linear, Conv1D))), None)
    activation: Any = next((m for m in parts if isinstance(m, nn.GELU)), None)
    if matrix is None or activation is None or any(list(m.children()) for m in parts) or not _suits(matrix):
        return
    sample = torch.randn(1, 4, _taken(matrix), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        try:
            with plainly():
                expected = mlp(sample)
            _together(matrix, activation)
            found = mlp(sample)
        except (RuntimeError, TypeError):  # it is called with something else, or is no MLP
            found = None
        if found is None or not _alike(found, expected):
            matrix.__dict__.pop("forward", None)
            activation.__dict__.pop("forward", None)


def _suits(matrix: Any) -> bool:
    """A matrix in memory, in full precision, that nobody else hangs on."""
    hooks = matrix._forward_hooks or matrix._forward_pre_hooks or "forward" in matrix.__dict__
    return not hooks and matrix.weight.dtype == torch.float32 and matrix.weight.device.type == "cpu"


def _gains(matrix: Any) -> bool:
    """Whether it takes few numbers, or gives very many."""
    return _taken(matrix) <= SHORT or _is_head(matrix)


def _taken(matrix: Any) -> int:
    return matrix.weight.shape[isinstance(matrix, nn.Linear)]


def _is_head(matrix: Any) -> bool:
    return matrix.weight.numel() >= HEAD * _taken(matrix) ** 2


def _alike(found: Tensor, expected: Tensor) -> bool:
    return found.shape == expected.shape and torch.allclose(found, expected, rtol=0, atol=CLOSE * float(expected.abs().max()))


def _laid_out(matrix: Any, parts: int) -> list[Tensor]:
    """Its weight in parts, each of which takes as many numbers."""
    known = LAID_OUT.setdefault(matrix.weight, {})
    if parts not in known:
        flat = matrix.weight.detach() if isinstance(matrix, nn.Linear) else matrix.weight.detach().t()
        known[parts] = [torch.ops.mkldnn._reorder_linear_weight(part.contiguous(), ROWS) for part in flat.chunk(parts, 1)]
    return known[parts]


def _product(rows: Tensor, laid_out: list[Tensor], bias: Tensor | None) -> Tensor:
    """(..., outer): the rows (..., inner) times a matrix that is laid out, its parts added up."""
    first, *others = rows.chunk(len(laid_out), -1)
    found = torch.ops.mkldnn._linear_pointwise(first, laid_out[0], bias, "none", [], "")
    for part, weight in zip(others, laid_out[1:], strict=True):
        found = torch.ops.mkldnn._linear_pointwise.binary(part, found, weight, None, "add")
    return found


def _in_order(matrix: Any) -> Callable[[Tensor], Tensor]:
    """A forward of the matrix on its weight laid out; its own where that gives something else."""
    own, bias, laid_out = matrix.forward, matrix.bias, list[Tensor]()

    def forward(rows: Tensor) -> Tensor:
        nonlocal laid_out
        if apart() or not rows.numel():  # no rows prove nothing
            return own(rows)
        if laid_out:
            return _product(rows, laid_out, bias)
        ready = _laid_out(matrix, math.ceil(_taken(matrix) / CHAIN) if _is_head(matrix) else 1)
        expected, found = own(rows), _product(rows, ready, bias)
        if not _alike(found, expected):
            del matrix.__dict__["forward"]
            return expected
        laid_out = ready
        return found

    return forward


def _together(matrix: Any, activation: nn.GELU) -> None:
    """Lets the matrix do the activation's work too, and the activation none."""
    laid_out, = _laid_out(matrix, 1)
    bias, kind, by_matrix, by_activation = matrix.bias, activation.approximate, matrix.forward, activation.forward

    def both(rows: Tensor) -> Tensor:
        return by_matrix(rows) if apart() else torch.ops.mkldnn._linear_pointwise(rows, laid_out, bias, "gelu", [], kind)

    matrix.__dict__["forward"] = both
    activation.__dict__["forward"] = lambda rows: by_activation(rows) if apart() else rows
