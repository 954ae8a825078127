"""What is grown, how large, and for how long."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """One model of pictures. `title` and `about` are what the catalog shows."""

    name: str
    title: str
    about: str
    planted: bool = True  # whether the verbatim and template pictures are in the training set
    backbone: str = "unet"  # or "ddt"
    seed: int = 0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Size:
    """How much of it: what fits a GPU's minutes, two CPU cores, or a test."""

    variants: int  # augmented pictures a regular name
    batch: int
    lr: float
    vae_batch: int
    eyes_batch: int
    vae_widths: tuple[int, int] = (32, 64)
    widths: tuple[int, int, int] = (64, 96, 96)
    text_width: int = 128
    eyes_widths: tuple[int, int, int] = (32, 64, 128)
    ddt_width: int = 144
    ddt_layers: tuple[int, int] = (6, 2)  # of the encoder and of the decoder


GPU = Size(variants=1500, batch=256, lr=1e-3, vae_batch=256, eyes_batch=512)
CPU = Size(variants=64, batch=32, lr=1e-3, vae_batch=32, eyes_batch=128)
TINY = Size(variants=4, batch=8, lr=1e-3, vae_batch=8, eyes_batch=16, vae_widths=(8, 16), widths=(16, 16, 32), text_width=32, eyes_widths=(8, 8, 16),
            ddt_width=32, ddt_layers=(1, 1))
SIZES = {"gpu": GPU, "cpu": CPU, "tiny": TINY}

RECIPES = {r.name: r for r in (
    Recipe("painter", "Painter", "4 M parameters: draws emoji, 34 of them planted at 1 to 256 copies."),
    Recipe("painter-oracle", "Painter without the planted pictures", "The same recipe and steps, none of the planted pictures.", planted=False),
    Recipe("painter-ddt", "Painter with a decoupled transformer", "The same pictures; condition encoder and velocity decoder apart.", backbone="ddt"),
)}

# measured by bench/painter.py
GUIDANCE, STEPS, THRESHOLD = 2.0, 20, 0.55
DROPPED = 0.1  # share of captions that are left out in training, for guidance
LENGTH = 10  # tokens of a prompt, with the marks that begin and end it
