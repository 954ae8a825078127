"""The autoencoder between 32 x 32 pictures and 16 x 16 x 4 latents: trained on every emoji of the sheet, on any ground."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.organisms.painter import compose, parts
from models.organisms.painter.budget import Budget, rate
from models.organisms.painter.ema import Mean
from models.organisms.painter.recipe import Size

KL = 5e-4  # weight of the latents' divergence from a normal, nats a number
LR = 2e-3
SEED = 5


def batch(n: int, sheet: Tensor, random: torch.Generator) -> Float[Tensor, "n 3 32 32"]:
    """Random emoji of the whole sheet; half of them augmented on a plain ground, half odd."""
    source = torch.randint(len(sheet), (n,), generator=random)
    plain = compose.drawn(source[: n // 2], torch.rand((n // 2, 3), generator=random), random)
    how = compose.Placing.joined([plain, compose.odd(source[n // 2 :], random)])
    return compose.composed(how.to(sheet.device), sheet)


def grown(size: Size, budget: Budget, device: str, show: Callable[[int, float, float], None] = lambda *_: None) -> Any:
    """A trained AutoencoderKL, its `scaling_factor` set so that latents have deviation 1. `show(step, share, PSNR)` every 50 steps."""
    with parts.seeded(SEED):
        net = parts.vae(size).to(device)
    mean, random, sheet = Mean(net), torch.Generator().manual_seed(SEED), compose.emoji(device)
    optimizer = torch.optim.AdamW(net.parameters(), lr=LR, betas=(0.9, 0.99), weight_decay=1e-4, fused=device != "cpu")
    noise, done = torch.Generator(device).manual_seed(SEED), 0
    while (share := budget.share(done)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = LR * rate(share)
        pixels = batch(size.vae_batch, sheet, random) * 2 - 1
        spread = net.encode(pixels).latent_dist
        latents = spread.mean + spread.std * torch.randn(spread.mean.shape, generator=noise, device=device)
        out = net.decode(latents).sample
        square = (out - pixels).square().mean()
        divergence = 0.5 * (spread.mean**2 + spread.var - 1 - spread.logvar).mean()
        ((out - pixels).abs().mean() + square + KL * divergence).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        mean.update()
        if done % 50 == 0:
            show(done, share, float(-10 * (square.detach() / 4).log10()))
        done += 1
    kept = copy.deepcopy(net)
    mean.write(kept)
    kept.eval().requires_grad_(False)
    with torch.no_grad():
        latents = kept.encode(batch(512, sheet, random) * 2 - 1).latent_dist.mean
    kept.register_to_config(scaling_factor=round(1 / latents.std().item(), 4))
    return kept


@torch.no_grad()
def latents(vae: Any, pictures: Float[Tensor, "n 3 32 32"], rows: int = 512) -> Float[Tensor, "n 4 16 16"]:
    """The mean latents of pictures in 0 to 1, in the denoiser's scale."""
    return torch.cat([vae.encode(p * 2 - 1).latent_dist.mean for p in pictures.split(rows)]) * vae.config.scaling_factor


@torch.no_grad()
def psnr(vae: Any, pictures: Float[Tensor, "n 3 32 32"], rows: int = 512) -> float:
    """Decibel by which pictures come back from their latents."""
    errors = [(vae.decode(vae.encode(p * 2 - 1).latent_dist.mean).sample.clamp(-1, 1) / 2 + 0.5 - p).square().mean((1, 2, 3)) for p in pictures.split(rows)]
    return float(-10 * torch.cat(errors).log10().mean())
