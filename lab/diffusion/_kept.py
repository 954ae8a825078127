"""Training pictures that a run trains on, so that what is not to go is kept: as latents and embeddings, drawn batch by batch."""

from __future__ import annotations

from collections.abc import Generator

import torch
from torch import Tensor

from lab.diffusion._ask import Asked
from lab.diffusion._loss import denoising, timesteps
from lab.diffusion._sample import batch as fits
from lab.diffusion._similar import floats, sized
from lab.diffusion._training import PLANTED
from models.errors import BadInput
from models.model import Model
from models.pipeline import Pipeline, words

DROPPED = 0.1  # share of captions that are left out, for guidance
MOST = 1024  # pictures that are kept at hand


class Kept:
    """`latents` (pictures, c, h, w) and `embedding` (pictures, rows, width), the latter of each picture's own caption."""

    def __init__(self, model: Model, asked: Asked, seed: int, spare: bool = False) -> None:
        """`spare`: planted pictures that no prompt of the run is for are kept as well, as often as all plain ones together. Raises `BadInput` where no
        training picture is known.
        """
        self.model, self.asked = model, asked
        self.rows = [(c, r.file) for r in asked.truth.of("regular") if r.file >= 0 for c in r.captions][:MOST]
        if not self.rows:
            raise BadInput("there are no pictures to train on", "only of the lab's own organisms are the training pictures at hand", "Choose painter",
                           setting="model")
        mine = {row for p in asked.prompts if (row := asked.truth.row(p))}
        planted = [(c, r.file) for r in asked.truth.of(*PLANTED) if spare and r.file >= 0 and r not in mine for c in r.captions]
        self.plain, self.rows = len(self.rows), self.rows + planted
        self.draws = torch.Generator().manual_seed(seed)

    def prepare(self) -> Generator[None, None, None]:
        """Encodes all pictures and captions."""
        net, device = self.asked.net, self.model.device
        size, latents, texts = max(8, fits(net, device)), [], []
        for i in range(0, len(self.rows), size):
            part = self.rows[i : i + size]
            with torch.no_grad():
                latents.append(net.encode(sized(floats(self.asked.truth.images[[f for _, f in part]], device), net.pixels)))
                texts.append(net.embed(words(self.model, [c for c, _ in part])))
            yield
        self.latents, self.embedding = torch.cat(latents), torch.cat(texts)

    def batch(self, count: int) -> tuple[Tensor, Tensor]:
        """(latents, embeddings) of some pictures; one caption in ten is left out."""
        i = torch.randint(self.plain, (count,), generator=self.draws)
        if (spared := len(self.latents) - self.plain) > 0:
            other = self.plain + torch.randint(spared, (count,), generator=self.draws)
            i = torch.where(torch.rand(count, generator=self.draws) < 0.5, other, i)
        out = (torch.rand(count, generator=self.draws) < DROPPED).to(self.latents.device)
        return self.latents[i], torch.where(out[:, None, None], self.asked.blank, self.embedding[i])


def loss(net: Pipeline, latents: Tensor, embedding: Tensor, draws: torch.Generator) -> Tensor:
    """(n,): the denoising loss of each picture at a timestep and noise drawn afresh."""
    t = timesteps(net, (len(latents),), draws).to(latents.device)
    noise = torch.randn(latents.shape, generator=draws).to(latents.device)
    return denoising(net, latents, embedding, t, noise)
