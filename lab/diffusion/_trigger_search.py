"""The search for embeddings that bring a picture back: Adam on the text embedding alone, many starts at once (Sun et al. 2025)."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from lab.diffusion._loss import denoising, timesteps
from lab.diffusion._sample import batch as fits
from models.pipeline import Pipeline

LR, BATCH, STEPS = 0.1, 8, 50  # published


class Search:
    """`y` (starts, rows, width) are the embeddings so far, of starts that do not touch each other; start i is to bring back `latents[i]`.

    Each step draws fresh noise and timesteps, `batch` a start; what is drawn does not hang on how many starts go through the denoiser at once.
    """

    def __init__(self, net: Pipeline, latents: Float[Tensor, "starts c h w"], starts: Float[Tensor, "starts rows width"], seed: int, *, lr: float = LR,
                 batch: int = BATCH) -> None:
        self.net, self.latents, self.batch = net, latents, batch
        self.y = starts.detach().clone()
        self.draw = torch.Generator().manual_seed(seed)
        self.adam = torch.optim.Adam([self.y], lr)
        self.done = 0
        self.size = max(1, fits(net, latents.device) // batch)  # starts that go through at once

    def step(self) -> Generator[None, None, Float[Tensor, " starts"]]:
        """One step of every start; yields between batches. Returns the losses before it."""
        k, device = len(self.y), self.latents.device
        t = timesteps(self.net, (k, self.batch), self.draw).to(device)
        noise = torch.randn((k, self.batch, *self.latents.shape[1:]), generator=self.draw).to(device)
        grad, losses = torch.zeros_like(self.y), []
        for i in range(0, k, self.size):
            part = slice(i, i + self.size)
            losses.append(self._gradient(part, t[part], noise[part], grad))
            yield
        self.y.grad = grad
        self.adam.step()
        self.done += 1
        return torch.cat(losses)

    def _gradient(self, part: slice, t: Tensor, noise: Tensor, grad: Tensor) -> Tensor:
        with torch.enable_grad():
            y = self.y[part].detach().requires_grad_()
            clean = self.latents[part].repeat_interleave(self.batch, 0)
            each = denoising(self.net, clean, y.repeat_interleave(self.batch, 0), t.flatten(), noise.flatten(0, 1)).view(len(y), self.batch).mean(1)
            grad[part] = torch.autograd.grad(each.sum(), y)[0]
        return each.detach()


def random_starts(shape: Sequence[int], seed: int) -> Float[Tensor, ...]:
    """Standard normal embeddings."""
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed))


def distances(one: Float[Tensor, "n rows width"], two: Float[Tensor, "m rows width"]) -> Float[Tensor, "n m"]:
    """Euclidean distances of whole embeddings."""
    return torch.cdist(one.flatten(1), two.flatten(1))
