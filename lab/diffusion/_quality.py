"""What a model of pictures is still good for: how well it denoises, whether its pictures show what was asked, and how far they are from real ones."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from lab.diffusion._ask import Asked
from lab.diffusion._embedder import embedder
from lab.diffusion._goal import PLAIN, draw
from lab.diffusion._loss import denoising
from lab.diffusion._sample import batch as fits
from lab.diffusion._similar import Embedder, floats, sized
from lab.diffusion._training import Row
from models.model import Model
from models.pipeline import Pipeline, words

if TYPE_CHECKING:
    from collections.abc import Callable

CLASSIFIER = "classifier.safetensors"
DIRECTIONS = 16  # of the features, that the Fréchet distance looks along
TIMES = (0.1, 0.3, 0.5, 0.7, 0.9)  # of all timesteps, at which the denoising loss is taken
WANTED = {"denoising loss": "down", "named right": "up", "Fréchet distance": "down"}


@dataclass(frozen=True)
class Quality:
    """`loss`: denoising loss on held-out pictures, lower is better. `named`: share of pictures that show what their caption names, 0 to 1, NaN where no
    names are known. `distance`: squared Fréchet distance of features between drawn and real pictures, 0 and up, lower is better; it falls with the number
    of pictures, so only distances of equally many are compared.
    """

    loss: float
    named: float
    distance: float

    def named_values(self) -> dict[str, float]:
        return {"denoising loss": self.loss, "named right": self.named, "Fréchet distance": self.distance}


class Examiner:
    """Fixed captions, noises and real pictures, so that two models are asked the same."""

    def __init__(self, model: Model, asked: Asked, count: int, seed: int, seeds: int = 2) -> None:
        """`count` captions are drawn by `seed`, each from `seeds` noises."""
        self.asked, self.device = asked, model.device
        known = asked.truth
        draws = torch.Generator().manual_seed(seed)
        rows = [r for r in known.of("held", "regular") if r.captions]
        chosen = some(rows, count, draws)
        self.names = tuple(r.name for r in chosen)
        self.captions = tuple(r.captions[0] for r in chosen) or PLAIN[:count]
        self.seeds = tuple(seed + 900_000 + i for i in range(seeds))
        real = [r for r in known.of("regular", "held") if r.file >= 0]
        self.real = floats(known.images[[r.file for r in real]], model.device) if real else None
        self.eye: Embedder = embedder(model) or coarse
        self.namer = namer(model, real, self.real)
        with torch.no_grad():
            self.embedding = asked.net.embed(words(model, self.captions))
            self._held(model, real, draws, count)

    def _held(self, model: Model, real: list[Row], draws: torch.Generator, count: int) -> None:
        """Latents, embeddings, timesteps and noise of the denoising loss. Where no real picture is known it is that of pictures that the model drew."""
        net = self.asked.net
        held = some([r for r in real if r.kind == "held"] or real, max(16, count), draws)
        self.latents = net.encode(sized(floats(self.asked.truth.images[[r.file for r in held]], model.device), net.pixels)) if held else None
        self.held = net.embed(words(model, [r.captions[0] for r in held])) if held else self.embedding
        last = int(net.scheduler_config["num_train_timesteps"])
        n = len(self.held)
        self.t = torch.tensor([round(last * TIMES[i % len(TIMES)]) for i in range(n)], device=model.device)
        self.noise = torch.randn((n, *net.latent_shape), generator=draws).to(model.device)

    def examine(self, net: Pipeline) -> Generator[None, None, Quality]:
        """Yields between batches."""
        a = self.asked
        drawn = (yield from draw(net, self.embedding, a.blank, self.seeds, a.steps, a.guidance))
        if self.latents is None:
            self.latents = net.encode(sized(drawn[:, 0], net.pixels))
        losses = []
        size = fits(net, self.device)
        for i in range(0, len(self.held), size):
            part = slice(i, i + size)
            with torch.no_grad():
                losses.append(denoising(net, self.latents[part], self.held[part], self.t[part], self.noise[part]))
            yield
        flat = drawn.flatten(0, 1)
        with torch.no_grad():
            if self.real is None:
                self.real = sized(flat, net.pixels)  # of an unknown model: how far it goes from what it drew first
            distance = frechet(self.eye(sized(flat, tuple(self.real.shape[-2:]))), self.eye(self.real))  # type: ignore[arg-type]
            right = np.nan
            if self.namer is not None:
                said = self.namer(sized(flat, tuple(self.real.shape[-2:])))  # type: ignore[arg-type]
                right = float(np.mean([s == self.names[i // len(self.seeds)] for i, s in enumerate(said)]))
        return Quality(float(torch.cat(losses).mean()), right, distance)


def some(rows: Sequence[Row], count: int, draws: torch.Generator) -> list[Row]:
    """`count` rows, without repetition."""
    return [rows[i] for i in torch.randperm(len(rows), generator=draws)[:count].tolist()]


def coarse(pictures: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n width"]:
    """Features where there is no embedder: the picture at 4 x 4 pixels."""
    return nn.functional.adaptive_avg_pool2d(pictures, 4).flatten(1)


def namer(model: Model, real: list[Row], pictures: Tensor | None) -> Callable[[Tensor], list[str]] | None:
    """Says which of the regular names each picture shows: by the organism's classifier, or by the mean features of the real pictures of each name."""
    names = sorted({r.name for r in real})
    file = model.folder / CLASSIFIER if model.folder else None
    if file is not None and file.is_file():
        from models.organisms.painter.embedder import load
        from models.organisms.painter.names import REGULAR

        net = load(file).to(model.device)
        return lambda shown: [REGULAR[i] for i in net(shown).argmax(1).tolist()]
    if not names or pictures is None:
        return None
    features = coarse(pictures)
    means = torch.stack([features[[i for i, r in enumerate(real) if r.name == n]].mean(0) for n in names])
    return lambda shown: [names[i] for i in torch.cdist(coarse(shown), means).argmin(1).tolist()]


def frechet(one: Float[Tensor, "n width"], two: Float[Tensor, "m width"], directions: int = DIRECTIONS) -> float:
    """Squared Fréchet distance of the Gaussians through two sets of features, along the main `directions` of the second (Heusel et al. 2017, 1706.08500).

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), 0 and up, 0 for equal sets. All directions count where there are no more than `directions`.
    """
    a, b = one.double().cpu(), two.double().cpu()
    if b.shape[1] > directions:
        main = torch.linalg.svd(b - b.mean(0), full_matrices=False).Vh[:directions]
        a, b = a @ main.T, b @ main.T
    gap = (a.mean(0) - b.mean(0)).square().sum()
    first, second = (torch.cov(x.T).reshape(x.shape[1], x.shape[1]) for x in (a, b))
    root = _root(second)
    crossed = torch.linalg.eigvalsh(root @ first @ root).clamp(min=0).sqrt().sum()
    return max(0.0, float(gap + first.trace() + second.trace() - 2 * crossed))


def _root(matrix: Tensor) -> Tensor:
    """The square root of a symmetric matrix without negative directions."""
    value, vector = torch.linalg.eigh(matrix)
    return (vector * value.clamp(min=0).sqrt()) @ vector.T
