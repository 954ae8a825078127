"""The denoising loss, picture by picture: what a search lowers over embeddings, and tuning over weights."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models.pipeline import Pipeline

GAMMA = 5.0  # Hang et al. 2023, arXiv 2303.09556


def timesteps(net: Pipeline, shape: tuple[int, ...], draw: torch.Generator) -> Int[Tensor, ...]:
    """Timesteps that a step of training takes, drawn evenly."""
    return torch.randint(0, int(net.scheduler_config["num_train_timesteps"]), shape, generator=draw)


def denoising(net: Pipeline, clean: Float[Tensor, "n c h w"], embedding: Float[Tensor, "n rows width"], t: Int[Tensor, " n"], noise: Float[Tensor, "n c h w"],
              ) -> Float[Tensor, " n"]:
    """Mean over the latent's numbers of the squared error of the noise, 0 and up, lower: denoised better. Differentiable in the weights and `embedding`.

    So for a denoiser that predicts the noise. For one that predicts the clean latent, or a mixture, the error of the noise grows without bound as the noise
    vanishes: there the error of the clean latent counts, times the signal-to-noise ratio up to 5, which is the same loss where there is much noise (min-SNR).
    For a flow it is the error of the velocity.
    """
    signal, sigma = (level[:, None, None, None] for level in net.levels(t))
    guess, guessed = net.predict(signal * clean + sigma * noise, t, embedding)
    if net.flow:
        return ((guess - guessed) - (noise - clean)).square().mean((1, 2, 3))
    if net.predicts == "epsilon":
        return (guess - noise).square().mean((1, 2, 3))
    weight = (signal / sigma.clamp(min=1e-4)).square().clamp(max=GAMMA)[:, 0, 0, 0]
    return weight * (guessed - clean).square().mean((1, 2, 3))
