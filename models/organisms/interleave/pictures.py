"""The pictures of assets/emoji: small grids of palette colours with their captions, and which of them are never trained."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path

SIDE = 8  # cells across and down
CELLS = SIDE * SIDE
COLOURS = 32
FILE = Path(__file__).parents[3] / "assets" / "emoji" / "pictures.json"


@dataclass(frozen=True)
class Picture:
    """`cells` are colours of the palette, row by row from the top left. `split` is "train", "tone" or "new": the last two are never trained."""

    emoji: str
    caption: str
    group: str
    split: str
    cells: tuple[int, ...]


@functools.cache
def pictures() -> tuple[Picture, ...]:
    return tuple(Picture(p["emoji"], p["caption"], p["group"], p["split"], tuple(p["cells"])) for p in read()["pictures"])


@functools.cache
def palette() -> tuple[tuple[int, int, int], ...]:
    """Red, green and blue of every colour, 0 to 255; from dark to bright."""
    return tuple((r, g, b) for r, g, b in read()["palette"])


def read() -> dict:
    return json.loads(FILE.read_text(encoding="utf-8"))
