"""How alike two pictures are: the one place that compares them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

Embedder = Callable[[Tensor], Tensor]  # n x 3 x H x W in 0 to 1 -> n x width, of norm 1
WINDOW, SIGMA = 11, 1.5  # of SSIM, Wang et al. 2004
TILES = 4  # along a side, Carlini et al. 2023, arXiv 2301.13188
SHORT = 16  # training pictures that are compared closely, by each of the quick measures


def floats(pictures: UInt8[np.ndarray, "n h w 3"], device: torch.device | str = "cpu") -> Float[Tensor, "n 3 h w"]:
    """Pictures of an event as numbers in 0 to 1."""
    return torch.from_numpy(np.array(pictures)).to(device).permute(0, 3, 1, 2).float() / 255


def bytes_of(pictures: Float[Tensor, "n 3 h w"]) -> UInt8[np.ndarray, "n h w 3"]:
    """Pictures in 0 to 1 as an event holds them."""
    return (pictures.detach().clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def sized(pictures: Float[Tensor, "n 3 h w"], size: tuple[int, int]) -> Float[Tensor, "n 3 H W"]:
    """The pictures at another size; untouched where they have it."""
    if tuple(pictures.shape[-2:]) == tuple(size):
        return pictures
    return nn.functional.interpolate(pictures, size, mode="bilinear", antialias=True, align_corners=False).clamp(0, 1)


def ssim(one: Float[Tensor, "n 3 h w"], two: Float[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
    """Structural similarity, mean over pixels and colours: 1 for equal pictures, near 0 for unrelated ones, -1 at least (Wang et al. 2004).

    A Gaussian window of 11 pixels with deviation 1.5, where it lies wholly inside; on smaller pictures the largest odd window that does.
    """
    size = min(WINDOW, *one.shape[-2:])
    size -= 1 - size % 2
    line = torch.exp(-((torch.arange(size, device=one.device) - size // 2) ** 2) / (2 * SIGMA**2))
    line = (line / line.sum()).to(one.dtype)

    def blur(x: Tensor) -> Tensor:
        flat = x.flatten(0, 1)[:, None]
        return nn.functional.conv2d(nn.functional.conv2d(flat, line.view(1, 1, -1, 1)), line.view(1, 1, 1, -1)).unflatten(0, x.shape[:2])[:, :, 0]

    mean_1, mean_2, both = blur(one), blur(two), blur(one * two)
    var_1, var_2, cov = blur(one * one) - mean_1**2, blur(two * two) - mean_2**2, both - mean_1 * mean_2
    c1, c2 = 0.01**2, 0.03**2
    value = (2 * mean_1 * mean_2 + c1) * (2 * cov + c2) / ((mean_1**2 + mean_2**2 + c1) * (var_1 + var_2 + c2))
    return value.mean((1, 2, 3))


def distance(one: Float[Tensor, "n 3 h w"], two: Float[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
    """Root of the mean squared difference: 0 for equal pictures, 1 at most. Carlini et al. call two pictures equal up to .15."""
    return (one - two).square().mean((1, 2, 3)).sqrt()


def tiled(one: Float[Tensor, "n 3 h w"], two: Float[Tensor, "n 3 h w"]) -> Float[Tensor, " n"]:
    """The largest `distance` among 4 x 4 tiles: a plain ground that two pictures share makes it no smaller (Carlini et al. 2023)."""
    gap = (one - two).square().mean(1, keepdim=True)
    return nn.functional.adaptive_avg_pool2d(gap, TILES).amax((1, 2, 3)).sqrt()


@dataclass(frozen=True, eq=False)
class Nearest:
    """Of every picture the nearest training picture and how near it is. `feature` is NaN where there is no embedder."""

    index: Int[np.ndarray, " n"]
    ssim: Float[np.ndarray, " n"]  # -1 to 1, higher is nearer
    tiled: Float[np.ndarray, " n"]  # 0 to 1, lower is nearer
    feature: Float[np.ndarray, " n"]  # cosine, -1 to 1, higher is nearer


class Gallery:
    """Training pictures made ready for many questions. `pictures`: (n, 3, h, w) in 0 to 1; only those of `among` are found, where it is given."""

    def __init__(self, pictures: Float[Tensor, "n 3 h w"], embedder: Embedder | None = None, among: Sequence[int] | None = None) -> None:
        self.pictures, self.embedder = pictures, embedder
        self.among = torch.arange(len(pictures), device=pictures.device) if among is None else torch.tensor(list(among), device=pictures.device)
        found = pictures[self.among]
        self.features = embedder(found) if embedder and len(found) else None
        self.flat = sized(found, (16, 16)).flatten(1) if min(found.shape[-2:]) > 16 else found.flatten(1)

    def nearest(self, pictures: Float[Tensor, "n 3 h w"]) -> Nearest:
        """The training picture of highest SSIM with each. Those compared are the 16 nearest by the embedder and the 16 nearest by squared difference at 16
        x 16 pixels; the pictures are brought to the size of the training pictures.
        """
        shown = sized(pictures.to(self.pictures.device), (self.pictures.shape[-2], self.pictures.shape[-1]))
        n, k = len(shown), min(SHORT, len(self.among))
        small = sized(shown, (16, 16)).flatten(1) if min(shown.shape[-2:]) > 16 else shown.flatten(1)
        choice = torch.cdist(small, self.flat).topk(k, largest=False).indices
        mine = self.embedder(shown) if self.embedder and self.features is not None else None
        if mine is not None and self.features is not None:
            choice = torch.cat([choice, (mine @ self.features.T).topk(k).indices], 1)
        width = choice.shape[1]
        score = ssim(shown.repeat_interleave(width, 0), self.pictures[self.among[choice.flatten()]]).view(n, width)
        best = score.argmax(1)
        place = choice.gather(1, best[:, None])[:, 0]
        index = self.among[place]
        against = self.pictures[index]
        cosine = (mine * self.features[place]).sum(1) if mine is not None and self.features is not None else torch.full((n,), torch.nan)
        return Nearest(index.cpu().numpy(), *(v.double().cpu().numpy() for v in (score.gather(1, best[:, None])[:, 0], tiled(shown, against), cosine)))


def nearest(pictures: Float[Tensor, "n 3 h w"], training: Float[Tensor, "m 3 H W"], embedder: Embedder | None = None,
            ) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"]]:
    """(index, SSIM) of the nearest training picture of each."""
    found = Gallery(training, embedder).nearest(pictures)
    return torch.from_numpy(found.index), torch.from_numpy(found.ssim)
