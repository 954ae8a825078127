"""Estimates of curvature from random directions: of a loss in its input, by differences of gradients, and of the Fisher information in matrices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

Gradient = Callable[[Tensor], Tensor]  # (rows, tokens, width) inputs -> gradient of each row's loss, of the same shape


def signs(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Entries 1 and -1, each with probability one half. Drawn on the CPU, so that a seed says the same on every device."""
    return torch.randint(0, 2, tuple(shape), generator=generator).float() * 2 - 1


def bend(gradient: Gradient, x: Tensor, direction: Tensor, step: float) -> tuple[Float[Tensor, " rows"], Float[Tensor, " rows"]]:
    """(v'Hv, v'HHv) of each row for the direction v, H the Hessian of its loss at `x`. Their means over directions with independent signs are tr H and tr HH.

    Hv is the central difference of the gradient, so that no second backward pass is needed, which fast attention lacks; its error is of second order in
    `step`. Hutchinson 1989, doi 10.1080/03610918908812806; the squared form is the score of Garg et al. 2023, arXiv 2307.05831, but for its scale.
    """
    bent = (gradient(x + step * direction) - gradient(x - step * direction)) / (2 * step)
    return (bent * direction).flatten(1).sum(1), bent.square().flatten(1).sum(1)


def output_noise(logits: Tensor, sign: Tensor) -> Tensor:
    """L e, of the logits' shape, for signs e: L L' = diag(p) - p p' is the Fisher information of a softmax in its logits, so that E[Le (Le)'] is it."""
    root = logits.softmax(-1).sqrt()
    scaled = root * sign
    return scaled - root.square() * (root * sign).sum(-1, keepdim=True)


class Matrices:
    """What goes into given matrices and the gradient of what comes out, kept by hooks on a private net."""

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        self.inputs: dict[int, Tensor] = {}
        self.outputs: dict[int, Tensor] = {}
        for i, module in enumerate(modules):
            module.register_forward_hook(self._keep(i))

    def _keep(self, i: int) -> Callable:
        def hook(_: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
            self.inputs[i], self.outputs[i] = args[0].detach(), output
        return hook

    def squares(self, target: Tensor) -> Float[Tensor, " rows"]:
        """Squared norm of the gradient of each row of `target` summed, over all matrices. A row's gradient at a matrix is sum_t g_t a_t', and
        its squared norm sum_ts (g_t . g_s)(a_t . a_s), so that no gradient of a matrix is ever written out."""
        order = sorted(self.outputs)
        grads = torch.autograd.grad(target, [self.outputs[i] for i in order])
        total = torch.zeros(len(grads[0]), device=grads[0].device)
        for i, g in zip(order, grads, strict=True):
            a = self.inputs[i]
            total += ((g @ g.transpose(1, 2)) * (a @ a.transpose(1, 2))).sum((1, 2))
        return total
