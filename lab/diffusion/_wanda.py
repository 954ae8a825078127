"""Pruning of the second matrix of the feed-forwards by what a prompt drives hardest (Chavhan et al. 2024, with the score of Sun et al. 2023)."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lab.diffusion._neurons import feed_forwards
from lab.diffusion._sample import start, together
from models.model import Model
from models.pipeline import Pipeline


class Norms:
    """Reads, on a private net, the norm of every input of the second matrices, over all that runs through them."""

    def __init__(self, model: Model) -> None:
        self.net: Pipeline = model.skeleton()  # type: ignore[assignment]
        self.squares: dict[str, Tensor] = {}
        for name, matrix in feed_forwards(self.net).items():
            matrix.register_forward_pre_hook(self._hook(name))

    def _hook(self, name: str) -> Any:
        def read(module: Any, args: tuple[Tensor, ...]) -> None:
            total = args[0].detach().float().flatten(0, -2).square().sum(0)
            self.squares[name] = self.squares.get(name, torch.zeros_like(total)) + total

        return read

    def run(self, embedding: Float[Tensor, "1 rows width"], seeds: Sequence[int], steps: int, part: float) -> Generator[None, None, dict[str, Tensor]]:
        """Path -> (inputs,) norms over the first `part` of the denoising steps from every seed, the text alone (guidance 1)."""
        self.squares = {}
        latents = start(self.net, seeds, embedding.device)
        wanted = max(1, round(steps * part))
        for step in together(self.net, embedding, embedding, latents, steps, 1.0):
            yield
            if step is not None and step.done >= wanted:
                break
        return {n: s.sqrt() for n, s in self.squares.items()}


def chosen(weight: Float[Tensor, "out in"], mine: Float[Tensor, " in"], blank: Float[Tensor, " in"], share: float) -> Bool[Tensor, "out in"]:
    """The weights to prune: |weight| * norm of its input is among the largest `share` of its row, and larger than without a prompt.

    At least one a row is looked at. `share`: 0 to 1.
    """
    score = weight.abs().float() * mine
    k = max(1, round(share * weight.shape[1]))
    top = torch.zeros_like(score, dtype=torch.bool).scatter_(1, score.topk(k, 1).indices, True)
    return top & (score > weight.abs().float() * blank)


def masks(model: Model, mine: Mapping[str, Tensor], blank: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    return {n: chosen(m.weight, mine[n], blank[n], share) for n, m in feed_forwards(model.net).items()}


def pruned(model: Model, off: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Parameter name -> the second matrices with those weights zero."""
    return {f"{n}.weight": model.net.get_parameter(f"{n}.weight").detach().masked_fill(gone, 0) for n, gone in off.items() if bool(gone.any())}
