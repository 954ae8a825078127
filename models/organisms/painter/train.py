"""Trains denoiser and text encoder together on latents: velocity prediction, every picture drawn as often as its copies ask for."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from models.organisms.painter import parts
from models.organisms.painter.budget import Budget, rate
from models.organisms.painter.corpus import Corpus
from models.organisms.painter.ema import Mean
from models.organisms.painter.recipe import DROPPED, Recipe, Size


class Trainer:
    """`step()` trains on the next `size.batch` presentations of an endless row of passes, each pass in an order of its own.

    `begin` with the latents before the first step: (pictures, 4, 16, 16) of the corpus' pictures. `done` counts steps.
    """

    budget: Budget
    latents: Tensor

    def __init__(self, recipe: Recipe, size: Size, corpus: Corpus, device: str) -> None:
        self.recipe, self.size = recipe, size
        self.device, self.done, self.compiled = torch.device(device), 0, False
        with parts.seeded(recipe.seed):
            self.denoiser, self.text = parts.denoiser(recipe, size).to(self.device), parts.text(size).to(self.device)
        cuda = self.device.type == "cuda"
        if cuda and recipe.backbone == "unet":
            self.denoiser.to(memory_format=torch.channels_last)
        self.guess: Any = self.denoiser
        draws = corpus.draws(recipe.planted)
        captions = sorted({c for _, c in draws})
        at = {c: i for i, c in enumerate(captions)}
        self.ids = parts.ids(["", *captions]).to(self.device)  # row 0: no caption
        self.pictures = torch.tensor([k for k, _ in draws], device=self.device)
        self.captions = torch.tensor([at[c] + 1 for _, c in draws], device=self.device)
        self.random = torch.Generator(self.device).manual_seed(recipe.seed)
        self.waiting = torch.empty(0, dtype=torch.long, device=self.device)
        signal = parts.scheduler().alphas_cumprod
        self.signal, self.noise = signal.sqrt().to(self.device), (1 - signal).sqrt().to(self.device)
        self.weights = [*self.denoiser.parameters(), *self.text.parameters()]
        self.optimizer = torch.optim.AdamW(self.weights, lr=size.lr, betas=(0.9, 0.99), weight_decay=0.01, fused=cuda)
        self.mean = Mean(self.denoiser, self.text)

    @property
    def passes(self) -> float:
        """How often the training set was gone through."""
        return self.done * self.size.batch / len(self.pictures)

    def rows(self) -> Tensor:
        while len(self.waiting) < self.size.batch:
            self.waiting = torch.cat([self.waiting, torch.randperm(len(self.pictures), generator=self.random, device=self.device)])
        found, self.waiting = self.waiting[: self.size.batch], self.waiting[self.size.batch :]
        return found

    def begin(self, latents: Tensor, budget: Budget) -> None:
        self.latents, self.budget = latents.to(self.device), budget

    def compile(self) -> None:
        """Compiles the denoiser, forward and backward, before there is anything to train on. Raises what the compiler raises."""
        self.guess, self.compiled = torch.compile(self.denoiser), True
        noisy = torch.randn(self.size.batch, parts.CHANNELS, parts.LATENT, parts.LATENT, device=self.device)
        t = torch.zeros(self.size.batch, dtype=torch.long, device=self.device)
        for _ in range(2):
            self._velocity(noisy, t, self.ids[:1].expand(self.size.batch, -1)).float().square().mean().backward()
            self.optimizer.zero_grad(set_to_none=True)

    def eager(self) -> None:
        """Back to the denoiser as it is, after a compiler that failed."""
        self.guess, self.compiled = self.denoiser, False

    def _velocity(self, noisy: Tensor, t: Tensor, ids: Tensor) -> Tensor:
        # bfloat16 is twice as fast on a CPU with tiles for it, many times slower on one without, and on a GPU faster once casts are compiled into the sums;
        # a net this small would else wait for their launches
        quick = torch.cpu._is_amx_tile_supported() if self.device.type == "cpu" else self.compiled
        with torch.autocast(self.device.type, torch.bfloat16, enabled=quick):
            return self.guess(noisy, t, self.text(ids).last_hidden_state, return_dict=False)[0]

    def step(self) -> Tensor:
        """The loss, mean squared error of the velocity, still on the device."""
        rows, n = self.rows(), self.size.batch
        clean, said = self.latents[self.pictures[rows]].float(), self.captions[rows]
        said = said.masked_fill(torch.rand(n, generator=self.random, device=self.device) < DROPPED, 0)
        t = torch.randint(1000, (n,), generator=self.random, device=self.device)
        noise = torch.randn(clean.shape, generator=self.random, device=self.device)
        signal, sigma = self.signal[t, None, None, None], self.noise[t, None, None, None]
        out = self._velocity(signal * clean + sigma * noise, t, self.ids[said])
        loss = (out.float() - (signal * noise - sigma * clean)).square().mean()
        loss.backward()
        nn.utils.clip_grad_norm_(self.weights, 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = self.size.lr * rate(self.budget.share(self.done))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.mean.update()
        self.done += 1
        return loss.detach()

    def kept(self) -> tuple[Any, Any]:
        """(denoiser, text encoder) with the mean weights, frozen, on the CPU in float32."""
        with parts.seeded(self.recipe.seed):
            nets = parts.denoiser(self.recipe, self.size).to(self.device), parts.text(self.size).to(self.device)
        self.mean.write(*nets)
        return tuple(net.cpu().eval().requires_grad_(False) for net in nets)  # type: ignore[return-value]
