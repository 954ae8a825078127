"""DDIM with classifier-free guidance, over any batch of embeddings and noises, a step at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from models.pipeline import Pipeline

CPU, OTHER = 6e9, 3e13  # weights times latent pixels of a batch


@dataclass(frozen=True)
class Step:
    """What is there after `done` of `total` steps, each of shape (n, channels, height, width).

    `latents` are those after the step, `clean` what the picture would be if it ended here. `with_text` and `without` are the noise that the denoiser saw
    in the latents before the step, at timestep `t`, with the embedding and with none; `without` is None where guidance is 1 and nobody asked for it.
    """

    done: int
    total: int
    t: float
    latents: Tensor
    clean: Tensor
    with_text: Tensor
    without: Tensor | None


def start(net: Pipeline, seeds: Sequence[int], device: torch.device | str = "cpu") -> Float[Tensor, "n c h w"]:
    """The noise of every seed: it is the same whatever stands beside it in the batch, and on every device."""
    drawn = [torch.randn(net.latent_shape, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    return torch.stack(drawn).to(device)


def sample(net: Pipeline, embedding: Float[Tensor, "#n rows width"], blank: Float[Tensor, "#n rows width"], latents: Float[Tensor, "n c h w"], steps: int,
           guidance: float, *, both: bool = False) -> Iterator[Step]:
    """Denoises `latents` in `steps` steps, yielding after each. One embedding serves all, or each has its own. No gradient is kept: where one is wanted,
    use `step`.

    The noise is without + guidance * (with_text - without): guidance 1 follows the text alone, 0 no text, above 1 beyond the text. `both`: `without` is
    wanted whatever the guidance.
    """
    plan = net.schedule(steps)
    for done, (t, after) in enumerate(plan, 1):
        with torch.no_grad():  # not around the yield: who reads the steps must find his own gradients as he left them
            latents, clean, with_text, without = step(net, latents, t, after, embedding, blank, guidance, both=both)
        yield Step(done, len(plan), t, latents, clean, with_text, without)


def step(net: Pipeline, latents: Float[Tensor, "n c h w"], t: float, after: float, embedding: Float[Tensor, "#n rows width"],
         blank: Float[Tensor, "#n rows width"], guidance: float, *, both: bool = False) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """One step from timestep `t` to `after`: (latents, clean, noise with text, noise without). Can be differentiated in latents and embedding."""
    n = len(latents)
    embedding = embedding.expand(n, -1, -1)
    if guidance == 1 and not both:
        noise, clean = net.predict(latents, t, embedding)
        with_text, without = noise, None
    else:
        noises, cleans = net.predict(torch.cat([latents, latents]), t, torch.cat([embedding, blank.expand(n, -1, -1)]))
        with_text, without = noises[:n], noises[n:]
        noise, clean = without + guidance * (with_text - without), cleans[n:] + guidance * (cleans[:n] - cleans[n:])
    clean = net.clipped(clean)
    signal, sigma = net.levels(torch.as_tensor(after, device=latents.device))
    return signal * clean + sigma * noise, clean, with_text, without


def paint(net: Pipeline, embedding: Float[Tensor, "#n rows width"], blank: Float[Tensor, "#n rows width"], latents: Float[Tensor, "n c h w"], steps: int,
          guidance: float) -> Float[Tensor, "n 3 H W"]:
    """The finished pictures, in 0 to 1."""
    *_, last = sample(net, embedding, blank, latents, steps, guidance)
    with torch.no_grad():
        return net.decode(last.latents)


def together(net: Pipeline, embedding: Float[Tensor, "#n rows width"], blank: Float[Tensor, "#n rows width"], latents: Float[Tensor, "n c h w"], steps: int,
             guidance: float, *, both: bool = False) -> Iterator[Step | None]:
    """As `sample`, for more pictures than go through the denoiser at once: all are taken one step on before any is taken the next.

    Yields None after every batch but the last of a step, so that whoever runs it can say how far it is.
    """
    size, n = batch(net, latents.device), len(latents)
    embedding = embedding.expand(n, -1, -1)
    parts = [sample(net, embedding[i : i + size], blank, latents[i : i + size], steps, guidance, both=both) for i in range(0, n, size)]
    for _ in range(steps):
        found: list[Step] = []
        for part in parts:
            found.append(next(part))
            if len(found) < len(parts):
                yield None
        latents, clean, with_text = (torch.cat([getattr(s, k) for s in found]) for k in ("latents", "clean", "with_text"))
        without = None if found[0].without is None else torch.cat([s.without for s in found if s.without is not None])
        yield Step(found[0].done, found[0].total, found[0].t, latents, clean, with_text, without)


def batch(net: Pipeline, device: torch.device) -> int:
    """How many pictures go through the denoiser at once: some tenths of a second on a processor, what fits the memory elsewhere."""
    weights, pixels = sum(p.numel() for p in net.denoiser.parameters()), net.latent_shape[1] * net.latent_shape[2]
    work, most = (CPU, 16) if device.type == "cpu" else (OTHER, 256)
    return min(most, max(1, int(work / (weights * pixels))))
