"""Scores of memorization on plain tensors, and how well a score tells memorized from not."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lab.diffusion._similar import tiled
from models.pipeline import Pipeline

STEP = 1e-2  # length of a finite difference in each dimension of the latents, in standard deviations of the noise


def magnitude(with_text: Float[Tensor, "n c h w"], without: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
    """What the text adds to the noise that is seen: norm of the difference (Wen et al. 2024). 0 and more, higher: more memorized."""
    return (with_text - without).flatten(1).norm(dim=1)


def bright(with_text: Float[Tensor, "n c h w"], without: Float[Tensor, "n c h w"], mask: Float[Tensor, "n h w"]) -> Float[Tensor, " n"]:
    """The same where the end mark holds the attention: each place weighted by the end mark's share, over the mean share (Chen et al. 2024)."""
    return ((with_text - without) * mask[:, None]).flatten(1).norm(dim=1) / mask.flatten(1).mean(1).clamp(min=1e-12)


def apart(rows: Float[Tensor, "n ..."]) -> float:
    """Mean over pairs of the root of the mean squared difference: 0 where all are equal."""
    flat = rows.flatten(1)
    return _mean([float((flat[i] - flat[j]).square().mean().sqrt()) for i, j in combinations(range(len(flat)), 2)])


def first_sight(latents: Float[Tensor, "n c h w"], noise: Float[Tensor, "n c h w"], signal: Float[Tensor, ""], sigma: Float[Tensor, ""]) -> float:
    """How much what is seen in different noises differs: mean difference over pairs of the clean latents, over their spread. 0 where all see one picture.

    `noise` is what is seen with the text alone: guidance would add the differences of what is seen without it.
    """
    clean = (latents - sigma * noise) / signal
    return apart(clean) / max(float(clean.std()), 1e-12)


def tiles_apart(pictures: Float[Tensor, "n 3 h w"]) -> float:
    """Mean over pairs of the largest difference among 4 x 4 tiles (Carlini et al. 2023): 0 where all are equal, 1 at most."""
    pairs = list(combinations(range(len(pictures)), 2))
    return _mean(tiled(pictures[[i for i, _ in pairs]], pictures[[j for _, j in pairs]]).tolist()) if pairs else float("nan")


def alike(features: Float[Tensor, "n width"]) -> float:
    """Mean cosine over pairs, -1 to 1: 1 where all features point one way."""
    unit = torch.nn.functional.normalize(features, dim=1)
    return _mean([float(unit[i] @ unit[j]) for i, j in combinations(range(len(unit)), 2)])


def _mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else float("nan")


def sharpness(net: Pipeline, latents: Float[Tensor, "n c h w"], t: float, embedding: Float[Tensor, "n rows width"], blank: Float[Tensor, "n rows width"],
              added: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
    """norm(H s)^2, with s the difference of the scores with and without text and H that of their Hessians (Jeon et al. 2025).

    `added` is the difference of the two noises at `latents`, -sigma s. H s comes from one finite difference along s. 0 and more, higher: the text makes the
    density sharper there.
    """
    sigma = net.levels(torch.as_tensor(t, device=latents.device))[1]
    size = added.flatten(1).norm(dim=1).clamp(min=1e-12)[:, None, None, None]
    along = added / size
    length = STEP * latents[0].numel() ** 0.5
    moved = _added(net, latents + length * along, t, embedding, blank)
    bent = (moved - added) / length  # derivative of the added noise along its own direction
    return (bent * size).flatten(1).square().sum(1) / sigma**4  # s = -added / sigma, and once more from the score


def curvature(net: Pipeline, latents: Float[Tensor, "n c h w"], t: float, embedding: Float[Tensor, "n rows width"],
              probes: Float[Tensor, "probes n c h w"]) -> Float[Tensor, " n"]:
    """Minus the mean eigenvalue of the Hessian of the log density with text: trace over dimensions, by Hutchinson with probes of +-1 and central
    differences. Higher: a sharper peak. 1 / sigma^2 where the model sees one picture whatever the noise.
    """
    sigma = net.levels(torch.as_tensor(t, device=latents.device))[1]
    found = []
    for probe in probes:
        up, down = net.noise(torch.cat([latents + STEP * probe, latents - STEP * probe]), t, torch.cat([embedding, embedding])).chunk(2)
        found.append(((up - down) / (2 * STEP) * probe).flatten(1).mean(1))
    return torch.stack(found).mean(0) / sigma


def _added(net: Pipeline, latents: Tensor, t: float, embedding: Tensor, blank: Tensor) -> Tensor:
    with_text, without = net.noise(torch.cat([latents, latents]), t, torch.cat([embedding, blank])).chunk(2)
    return with_text - without


# ---- how well a score tells


@dataclass(frozen=True)
class Told:
    """`false` and `true` are the points of the ROC curve, from (0, 0) to (1, 1). `auc_se` after Hanley & McNeil 1982."""

    false: Float[np.ndarray, " points"]
    true: Float[np.ndarray, " points"]
    auc: float
    auc_se: float
    at_one: float  # share of the memorized above the lowest threshold that at most 1 % of the others pass
    positives: int
    negatives: int

    @property
    def at_one_se(self) -> float:
        return float(np.sqrt(self.at_one * (1 - self.at_one) / self.positives))


def told(positive: Float[np.ndarray, " p"], negative: Float[np.ndarray, " n"]) -> Told | None:
    """How well a score (higher: memorized) parts `positive` from `negative`; None where one side is empty. Ties count half."""
    if not len(positive) or not len(negative):
        return None
    cuts = np.unique(np.concatenate([positive, negative]))[::-1]
    true = np.array([0.0, *((positive >= c).mean() for c in cuts)])
    false = np.array([0.0, *((negative >= c).mean() for c in cuts)])
    auc = float((positive[:, None] > negative).mean() + 0.5 * (positive[:, None] == negative).mean())
    p, n = len(positive), len(negative)
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    variance = (auc * (1 - auc) + (p - 1) * (q1 - auc**2) + (n - 1) * (q2 - auc**2)) / (p * n)
    return Told(false, true, auc, float(np.sqrt(max(0.0, variance))), float(true[false <= 0.01].max()), p, n)
