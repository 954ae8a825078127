"""The few value neurons whose absence stops a replay: those that answer unusually, then as many as possible given back (Hintersdorf et al. 2024)."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lab.diffusion._neurons import Blocking, activations
from lab.diffusion._sample import start
from lab.diffusion._similar import ssim
from models.model import Model
from models.pipeline import Pipeline

BEGIN, FALL, LEAST = 5.0, 0.25, 1.0  # of the threshold of unusual activations, in standard deviations
Off = dict[str, Bool[Tensor, " neurons"]]


@dataclass(frozen=True, eq=False)
class Found:
    """`off`: the neurons of every layer. `before`, `chosen` and `after`: how alike the noises end, undisturbed, without all unusual neurons, and without `off`.

    `candidates` were unusual at `threshold` or among the `k` most active of a layer; `stopped` says whether their absence came below the limit.
    """

    off: Off
    before: float
    chosen: float
    after: float
    threshold: float
    k: int
    candidates: int
    stopped: bool
    passes: int  # denoiser passes of one picture that the search took

    @property
    def count(self) -> int:
        return sum(int(v.sum()) for v in self.off.values())


@torch.no_grad()
def agreement(net: Pipeline, embedding: Float[Tensor, "1 rows width"], latents: Float[Tensor, "n c h w"], t: float) -> float:
    """How alike different noises end: the largest SSIM among pairs, of what the first denoising step takes away from each noise; 1 where all end alike.

    `t` is the first timestep. What is taken away there is, but for its scale, the clean latent that the step sees; its values are brought to 0 to 1
    together. No guidance.
    """
    clean = net.clean(latents, t, embedding.expand(len(latents), -1, -1))
    return alike(clean)


def alike(clean: Float[Tensor, "n c h w"]) -> float:
    low, high = clean.min(), clean.max()
    unit = (clean - low) / (high - low).clamp(min=1e-12)
    n = len(unit)
    one, two = torch.triu_indices(n, n, 1)
    # SSIM is taken colour by colour, so every channel is a grey picture of its own
    grey = unit.flatten(0, 1)[:, None].expand(-1, 3, -1, -1).unflatten(0, unit.shape[:2])
    found = ssim(grey[one].flatten(0, 1), grey[two].flatten(0, 1)).view(len(one), -1).mean(1)
    return float(found.max())


def usual(model: Model, embedding: Float[Tensor, "n rows width"], latents: Float[Tensor, "m c h w"], t: float,
          ) -> Generator[None, None, tuple[float, float]]:
    """Mean and standard deviation of the agreement over plain prompts."""
    net: Pipeline = model.net  # type: ignore[assignment]
    found = []
    for row in embedding.split(1):
        found.append(agreement(net, row, latents, t))
        yield
    each = torch.tensor(found)
    return float(each.mean()), float(each.std())


def scores(model: Model, embedding: Tensor, others: Mapping[str, Tensor], where: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(z, activation) of every value neuron for one text: z is its activation against the mean and spread over plain prompts."""
    mine = {n: a[0] for n, a in activations(model, embedding, where).items()}
    z = {n: (a - others[n].mean(0)) / others[n].std(0).clamp(min=1e-6) for n, a in mine.items()}
    return z, mine


def candidates(z: Mapping[str, Tensor], active: Mapping[str, Tensor], threshold: float, k: int) -> Off:
    """The neurons with z above the threshold, and the k most active of every layer."""
    off = {}
    for name, value in z.items():
        chosen = value > threshold
        if k:
            chosen = chosen.clone()
            chosen[active[name].topk(min(k, len(chosen))).indices] = True
        off[name] = chosen
    return off


def search(model: Model, embedding: Float[Tensor, "1 rows width"], others: Mapping[str, Float[Tensor, "n neurons"]], seeds: Sequence[int], t: float,
           limit: float, where: str) -> Generator[str, None, Found]:
    """Finds the neurons for one text. `limit`: the agreement to come below. Yields what it is doing.

    The threshold falls from 5 by .25 to 1 while k rises by one each time, until the agreement is below the limit; where it never is, the set that came nearest
    is taken. Then, layer by layer and within what is left neuron by neuron, the least unusual first, everything is given back whose return keeps it below.
    """
    work = Blocking(model, where)
    latents = start(work.net, seeds, model.device)
    z, active = scores(model, embedding, others, where)
    none = {n: torch.zeros_like(v, dtype=torch.bool) for n, v in z.items()}
    passes = 0

    def tried(off: Off) -> float:
        nonlocal passes
        passes += len(latents)
        work.block(off)
        return agreement(work.net, embedding, latents, t)

    before = tried(none)
    threshold, k, best = BEGIN, 0, (before, none, BEGIN, 0)
    while best[0] > limit and threshold >= LEAST:
        off = candidates(z, active, threshold, k)
        value = tried(off) if any(bool(v.any()) for v in off.values()) else before
        if value < best[0]:
            best = (value, off, threshold, k)
        yield f"unusual above {threshold:g} deviations"
        threshold, k = threshold - FALL, k + 1
    chosen, off, threshold, k = best
    stopped, count = chosen <= limit, sum(int(v.sum()) for v in off.values())
    keep = max(limit, chosen)  # where it was not stopped, nothing is given back that would make it worse
    after = chosen
    for name in off:
        if bool(off[name].any()):
            trial = off | {name: none[name]}
            value = tried(trial)
            if value <= keep:
                off, after = trial, value
            yield "giving layers back"
    pairs = sorted((float(z[n][i]), n, i) for n in off for i in off[n].nonzero()[:, 0].tolist())
    for _, name, i in pairs:
        trial = off | {name: off[name].clone()}
        trial[name][i] = False
        value = tried(trial)
        if value <= keep:
            off, after = trial, value
        yield "giving neurons back"
    return Found(off, before, chosen, after, threshold, k, count, stopped, passes)


def overlap(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> float:
    """Intersection over union of two sets of neurons or weights: 0 where they share nothing, 1 where they are one; NaN where both are empty."""
    both = sum(int((one[n] & two[n]).sum()) for n in one)
    either = sum(int((one[n] | two[n]).sum()) for n in one)
    return both / either if either else float("nan")


def union(sets: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """What is in any of the sets."""
    out = {n: v.clone() for n, v in sets[0].items()}
    for other in sets[1:]:
        for n, v in other.items():
            out[n] |= v
    return out
