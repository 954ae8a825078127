"""Small emoji placed on a ground: shifted, scaled, turned, mirrored, tinted. All tensor work, the same on a CPU and a GPU."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models.organisms.painter import sources

SIDE = 32  # pixels of a training picture
FINE = 2  # samples a pixel, along each side

# from RGB to luma and two axes of colour and back (NTSC): turning the two axes turns the hue
TO_HUE = ((0.299, 0.587, 0.114), (0.596, -0.274, -0.322), (0.211, -0.523, 0.312))


@dataclass(frozen=True)
class Placing:
    """How n pictures are made. Every field has n rows. Lengths are in half sides of the picture."""

    source: Int[Tensor, " n"]  # row of the sheet
    scale: Float[Tensor, " n"]  # side of the emoji; 1 fills the picture
    shift: Float[Tensor, "n 2"]  # right, down
    angle: Float[Tensor, " n"]  # radians
    mirrored: Float[Tensor, " n"]  # -1 or 1
    hue: Float[Tensor, " n"]  # radians by which the emoji's colours are turned
    light: Float[Tensor, " n"]  # what its colours are multiplied by
    ground: Float[Tensor, "n 3"]  # colour of the ground, 0 to 1
    other: Float[Tensor, "n 3"]  # colour that the ground runs to
    slope: Float[Tensor, "n 2"]  # direction in which it does; zeros where the ground is plain

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, rows: slice | Tensor) -> Placing:
        return Placing(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def to(self, device: str | torch.device) -> Placing:
        return Placing(**{f.name: getattr(self, f.name).to(device) for f in fields(self)})

    @staticmethod
    def joined(parts: list[Placing]) -> Placing:
        return Placing(**{f.name: torch.cat([getattr(p, f.name) for p in parts]) for f in fields(Placing)})


def emoji(device: str | torch.device = "cpu") -> Float[Tensor, "names 4 side side"]:
    """The sheet with colours premultiplied by transparency, 0 to 1."""
    raw = torch.from_numpy(sources.sheet().copy()).to(device).permute(0, 3, 1, 2).float() / 255
    return torch.cat([raw[:, :3] * raw[:, 3:], raw[:, 3:]], 1)


def drawn(source: Int[Tensor, " n"], ground: Float[Tensor, "n 3"], random: torch.Generator) -> Placing:
    """The strong augmentation: shift to 16 % of a side, scale .64 to .94, 25 degrees, mirrored or not, light and ground by a few per cent."""
    n = len(source)

    def between(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand((n, *shape), generator=random)

    near = (ground + between(-0.05, 0.05, 3)).clamp(0, 1)
    return Placing(source, between(0.64, 0.94), between(-0.3, 0.3, 2), between(-1.0, 1.0) * math.radians(25), between(0.0, 1.0).lt(0.5).float() * 2 - 1,
                   torch.zeros(n), between(0.88, 1.08), near, near, torch.zeros(n, 2))


def odd(source: Int[Tensor, " n"], random: torch.Generator) -> Placing:
    """Pictures that no augmentation makes: the emoji in other hues, on a ground that runs from one colour to another."""
    n = len(source)
    base = drawn(source, torch.full((n, 3), 0.5), random)
    turn = torch.rand(n, generator=random)
    hue = math.radians(60) + turn * math.radians(240)
    way = torch.rand(n, generator=random) * 2 * math.pi
    grounds = torch.rand((2, n, 3), generator=random)
    far = (grounds[0] - grounds[1]).abs().sum(1, keepdim=True) < 0.8  # two colours too alike make a plain ground
    other = torch.where(far, 1 - grounds[0].round(), grounds[1])
    return Placing(source, base.scale, base.shift, base.angle, base.mirrored, hue, torch.ones(n), grounds[0], other, torch.stack([way.cos(), way.sin()], 1))


def composed(how: Placing, sheet: Float[Tensor, "names 4 h h"], side: int = SIDE) -> Float[Tensor, "n 3 side side"]:
    """The pictures, 0 to 1, on the sheet's device."""
    n, big = len(how), side * FINE
    line = (torch.arange(big, device=sheet.device) + 0.5) / big * 2 - 1
    down, right = torch.meshgrid(line, line, indexing="ij")
    x, y = right[None] - how.shift[:, 0, None, None], down[None] - how.shift[:, 1, None, None]
    cos, sin = how.angle.cos()[:, None, None], how.angle.sin()[:, None, None]
    u = (cos * x + sin * y) / how.scale[:, None, None] * how.mirrored[:, None, None]
    v = (cos * y - sin * x) / how.scale[:, None, None]
    cut = torch.nn.functional.grid_sample(sheet[how.source], torch.stack([u, v], -1), mode="bilinear", padding_mode="zeros", align_corners=False)
    colour, cover = cut[:, :3], cut[:, 3:]
    colour = torch.minimum((torch.einsum("nij,njhw->nihw", turned(how.hue), colour) * how.light[:, None, None, None]).clamp(min=0), cover)
    along = (right[None] * how.slope[:, 0, None, None] + down[None] * how.slope[:, 1, None, None]).div(2.83).add(0.5).clamp(0, 1)[:, None]
    along = torch.where(how.slope.abs().sum(1)[:, None, None, None] > 0, along, torch.zeros_like(along))
    ground = how.ground[:, :, None, None] * (1 - along) + how.other[:, :, None, None] * along
    return torch.nn.functional.avg_pool2d(colour + ground * (1 - cover), FINE).reshape(n, 3, side, side)


def turned(hue: Float[Tensor, " n"]) -> Float[Tensor, "n 3 3"]:
    """Matrices that turn the hue of RGB colours by so many radians and leave grey as it is."""
    to, back = (m.to(hue.device) for m in _axes())
    spin = torch.zeros(len(hue), 3, 3, device=hue.device, dtype=torch.float64)
    spin[:, 0, 0] = 1
    spin[:, 1, 1] = spin[:, 2, 2] = hue.double().cos()
    spin[:, 1, 2], spin[:, 2, 1] = -hue.double().sin(), hue.double().sin()
    return (back @ spin @ to).float()


@functools.lru_cache(maxsize=1)
def _axes() -> tuple[Tensor, Tensor]:
    to = torch.tensor(TO_HUE, dtype=torch.float64)
    return to, to.inverse()


def in_bytes(pictures: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """The pictures as eight-bit files hold them, still 0 to 1."""
    return (pictures * 255).round() / 255
