"""Pairs of segments, and bands that their intensities should lie in, as text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from models.errors import BadInput

NUMBER = r"(\d*\.?\d+)"
BAND = re.compile(rf"(.+?)\s*(?:->|→|>)\s*(.+?)\s*:\s*{NUMBER}\s*(?:-|–|to)\s*{NUMBER}\s*(?:,?\s*layers?\s*(\d+)(?:\s*(?:-|–|to)\s*(\d+))?)?")
PAIR = re.compile(r"(.+?)\s*(?:->|→|>)\s*(.+)")


@dataclass(frozen=True)
class Target:
    """The intensity of `pair` (places of the segments) should be `low` to `high` in `layers` (first, and one past the last)."""

    pair: tuple[int, int]
    low: float
    high: float
    layers: tuple[int, int]


def targets(text: str, names: Sequence[str], depth: int, *, setting: str = "target") -> list[Target]:
    """From lines such as `answer > subject: 0.1-0.3` or `answer > subject: 0.1-0.3, layers 0-3`. Raises `BadInput` on what is none of these."""
    found = []
    for line in (part.strip() for part in text.replace(";", "\n").splitlines()):
        if not line:
            continue
        match = BAND.fullmatch(line)
        if match is None:
            raise BadInput(f"{line!r} is no band", "it has two segments and two shares", "Such as: answer > subject: 0.1-0.3, layers 0-3", setting=setting)
        low, high = float(match[3]), float(match[4])
        first, end = (0, depth) if match[5] is None else (int(match[5]), int(match[6] or match[5]) + 1)
        if not low < high <= 1:
            raise BadInput(f"the band {low:g} to {high:g} is none", "a share lies between 0 and 1, the lower one first", setting=setting)
        if not first < end <= depth:
            raise BadInput(f"there are no layers {first} to {end - 1}", f"the model has 0 to {depth - 1}", "Leave the layers out for all of them",
                           setting=setting)
        found.append(Target(pair(match[1], match[2], names, setting), low, high, (first, end)))
    return found


def chosen(text: str, names: Sequence[str], *, setting: str = "lines") -> list[tuple[int, int]]:
    """From lines such as `answer > subject`."""
    found = []
    for line in (part.strip() for part in text.replace(";", "\n").splitlines()):
        if not line:
            continue
        match = PAIR.fullmatch(line)
        if match is None:
            raise BadInput(f"{line!r} is no pair of segments", "it has two names", "Such as: answer > subject", setting=setting)
        found.append(pair(match[1], match[2], names, setting))
    return list(dict.fromkeys(found))


def pair(a: str, b: str, names: Sequence[str], setting: str) -> tuple[int, int]:
    for name in (a.strip(), b.strip()):
        if name not in names:
            raise BadInput(f"there is no segment {name!r}", f"the texts are cut into {', '.join(names)}", "Use these names", setting=setting)
    return names.index(a.strip()), names.index(b.strip())


def huber(intensity: Float[np.ndarray, " layers"], low: float, high: float) -> float:
    """Mean Huber loss to the middle of the band, half its width being delta: the loss of AIA. 0 at the middle. Source: arXiv 2511.22663."""
    delta = (high - low) / 2
    far = np.abs(intensity - (low + high) / 2)
    return float(np.where(far <= delta, far**2 / 2, delta * (far - delta / 2)).mean())
