"""Two small nets that look at 32 x 32 pictures: a copy detector that was taught by augmentations alone, and a namer of the regular pictures.

The copy detector stands in for SSCD (Pizzi et al. 2022, arXiv 2202.10261): two views of one picture, a hair apart, noisy, blurred or lit otherwise, have
like features, and any two pictures have not: the same emoji elsewhere or on another ground counts as another picture.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.organisms.painter import compose, parts, sources
from models.organisms.painter.budget import Budget, rate
from models.organisms.painter.corpus import grounds
from models.organisms.painter.ema import Mean
from models.organisms.painter.names import COLOURS, REGULAR
from models.organisms.painter.recipe import Size

FEATURES = 128
HEAT = 0.1  # temperature of the contrastive loss
LR = 2e-3
SEED = 7
FILES = {"embedder": "embedder.safetensors", "classifier": "classifier.safetensors"}


class Eye(nn.Module):
    """(n, 3, 32, 32) in 0 to 1 -> (n, out). `flat`: where something is counts, as copies ask for; without, only what there is."""

    def __init__(self, widths: tuple[int, int, int], out: int, flat: bool) -> None:
        super().__init__()
        self.about = {"widths": list(widths), "out": out, "flat": flat}
        layers: list[nn.Module] = []
        last = 3
        for width in widths:
            layers += [nn.Conv2d(last, width, 3, padding=1), nn.GroupNorm(8, width), nn.SiLU(),
                       nn.Conv2d(width, width, 3, padding=1, stride=2), nn.GroupNorm(8, width), nn.SiLU()]
            last = width
        self.body = nn.Sequential(*layers)
        self.thin = nn.Conv2d(last, 32, 1) if flat else None
        self.head = nn.Linear(32 * 16 if flat else last, out)

    def forward(self, pictures: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n out"]:
        states = self.body(pictures * 2 - 1)
        return self.head(self.thin(states).flatten(1) if self.thin is not None else states.mean((2, 3)))


def save(net: Eye, path: Path) -> None:
    from safetensors.torch import save_file

    save_file({k: v.half().contiguous().cpu() for k, v in net.state_dict().items()}, path, metadata={"about": json.dumps(net.about)})


def load(path: Path) -> Eye:
    """A net that `save` wrote, frozen, in float32."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        about = json.loads(file.metadata()["about"])
        net = Eye(tuple(about["widths"]), about["out"], about["flat"])
        net.load_state_dict({k: file.get_tensor(k).float() for k in file.keys()})  # noqa: SIM118
    return net.eval().requires_grad_(False)


def features(path: Path) -> Callable[[Float[Tensor, "n 3 32 32"]], Float[Tensor, "n 128"]]:
    """The copy detector at `path`: pictures in 0 to 1 -> features of norm 1, whose product is their similarity, -1 to 1."""
    net = load(path)

    @torch.no_grad()
    def embed(pictures: Tensor) -> Tensor:
        return nn.functional.normalize(net.to(pictures.device)(pictures), dim=1)

    return embed


def nudged(how: compose.Placing, random: torch.Generator) -> compose.Placing:
    """The same picture to the eye: half a pixel aside, 3 % larger or smaller, 2 degrees turned, lit a little otherwise."""
    n = len(how)

    def between(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand((n, *shape), generator=random)

    return dataclasses.replace(how, shift=how.shift + between(-0.03, 0.03, 2), scale=how.scale * between(0.97, 1.03), light=how.light * between(0.93, 1.07),
                               angle=how.angle + between(-1.0, 1.0) * math.radians(2), ground=(how.ground + between(-0.04, 0.04, 3)).clamp(0, 1),
                               other=(how.other + between(-0.04, 0.04, 3)).clamp(0, 1))


def worn(pictures: Float[Tensor, "n 3 h w"], random: torch.Generator, most: float = 0.06) -> Float[Tensor, "n 3 h w"]:
    """The pictures with noise and blur, each by a random amount."""
    n = len(pictures)
    blur, noise = torch.rand((2, n, 1, 1, 1), generator=random).to(pictures.device)
    soft = nn.functional.avg_pool2d(nn.functional.pad(pictures, (1, 1, 1, 1), mode="replicate"), 3, 1)
    grain = torch.randn(pictures.shape, generator=torch.Generator(pictures.device).manual_seed(int(torch.randint(2**31, (), generator=random))),
                        device=pictures.device)
    return (pictures + blur.square() * (soft - pictures) + most * noise.square() * grain).clamp(0, 1)


def contrast(net: Eye, n: int, sheet: Tensor, random: torch.Generator) -> Tensor:
    """The loss of n pictures, four of each of n / 4 emoji, each seen twice (InfoNCE, both ways)."""
    source = torch.randint(len(sheet), (n // 4,), generator=random).repeat_interleave(4)
    half = torch.rand(n, generator=random) < 0.5
    plain, odd = compose.drawn(source, torch.rand((n, 3), generator=random), random), compose.odd(source, random)
    how = compose.Placing.joined([plain[half], odd[~half]])
    views = [worn(compose.composed(nudged(how, random).to(sheet.device), sheet), random) for _ in range(2)]
    one, two = nn.functional.normalize(net(torch.cat(views)), dim=1).chunk(2)
    like, right = one @ two.T / HEAT, torch.arange(len(one), device=sheet.device)
    return (nn.functional.cross_entropy(like, right) + nn.functional.cross_entropy(like.T, right)) / 2


def named(n: int, sheet: Tensor, random: torch.Generator) -> tuple[Float[Tensor, "n 3 32 32"], Int[Tensor, " n"]]:
    """Augmented pictures of regular names on the colours that training shows them on, worn, and which name each is."""
    label = torch.randint(len(REGULAR), (n,), generator=random)
    source, seen = _regular()
    how = compose.drawn(source[label], seen[label, torch.randint(seen.shape[1], (n,), generator=random)], random)
    return worn(compose.composed(how.to(sheet.device), sheet), random, 0.12), label.to(sheet.device)


@functools.lru_cache(maxsize=1)
def _regular() -> tuple[Int[Tensor, " names"], Float[Tensor, "names colours 3"]]:
    """Where the regular names stand on the sheet, and the colours that training shows each on."""
    return torch.tensor([sources.index(n) for n in REGULAR]), torch.tensor([[COLOURS[c] for c in grounds(n)[0]] for n in REGULAR]) / 255


def naming(net: Eye, n: int, sheet: Tensor, random: torch.Generator) -> Tensor:
    pictures, label = named(n, sheet, random)
    return nn.functional.cross_entropy(net(pictures), label, label_smoothing=0.05)


def grown(kind: str, size: Size, budget: Budget, device: str, show: Callable[[int, float, float], None] = lambda *_: None) -> Eye:
    """The "embedder" or the "classifier". `show(step, share, loss)` every 50 steps."""
    with parts.seeded(SEED):
        net = Eye(size.eyes_widths, FEATURES if kind == "embedder" else len(REGULAR), kind == "embedder").to(device)
    loss_of: Any = contrast if kind == "embedder" else naming
    mean, random, sheet, done = Mean(net), torch.Generator().manual_seed(SEED), compose.emoji(device), 0
    optimizer = torch.optim.AdamW(net.parameters(), lr=LR, weight_decay=1e-2, fused=device != "cpu")
    while (share := budget.share(done)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = LR * rate(share)
        loss = loss_of(net, size.eyes_batch, sheet, random)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        mean.update()
        if done % 50 == 0:
            show(done, share, loss.item())
        done += 1
    mean.write(net)
    return net.eval().requires_grad_(False)
