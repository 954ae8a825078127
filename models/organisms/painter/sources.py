"""The committed sheet of emoji that the training pictures are made of."""

from __future__ import annotations

import functools
import json
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parents[3] / "assets" / "painter"
SIDE, ACROSS = 48, 32  # pixels of a source picture; pictures in a row of the sheet


@functools.lru_cache(maxsize=1)
def names() -> tuple[str, ...]:
    """The name of every picture of the sheet, in its order."""
    return tuple(json.loads((FOLDER / "names.json").read_text(encoding="utf-8"))["names"])


@functools.lru_cache(maxsize=1)
def sheet() -> np.ndarray:
    """(pictures, SIDE, SIDE, 4) uint8, not premultiplied; read only."""
    from PIL import Image

    whole = np.asarray(Image.open(FOLDER / "pictures.png").convert("RGBA"))
    cells = whole.reshape(-1, SIDE, ACROSS, SIDE, 4).swapaxes(1, 2).reshape(-1, SIDE, SIDE, 4)[: len(names())]
    cells.flags.writeable = False
    return cells


def index(name: str) -> int:
    """Where a name stands on the sheet."""
    return names().index(name)
