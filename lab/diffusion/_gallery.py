"""The training pictures of an organism, made ready to be searched once for all runs."""

from __future__ import annotations

import functools
from pathlib import Path

from lab.diffusion._embedder import NAME, embedder
from lab.diffusion._similar import Gallery, floats
from lab.diffusion._training import SHEET, Truth
from models.model import Model


class Key:
    """What a gallery is made of; equal where folder, files and device are."""

    def __init__(self, model: Model, known: Truth) -> None:
        folder = model.folder or Path()
        self.model, self.known = model, known
        files = [folder / n for n in ("manifest.json", SHEET, NAME)]
        self.about = (folder, str(model.device), *(p.stat().st_mtime_ns if p.is_file() else 0 for p in files))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and self.about == other.about

    def __hash__(self) -> int:
        return hash(self.about)


def gallery(model: Model, known: Truth) -> Gallery | None:
    """What drawn pictures are compared with: all training pictures that are known; None where none are. Its features are read once for all runs."""
    return _made(Key(model, known)) if known.compared else None


@functools.lru_cache(maxsize=4)
def _made(key: Key) -> Gallery:
    made = Gallery(floats(key.known.images, key.model.device), embedder(key.model), key.known.compared)
    del key.model, key.known  # the key is kept, and a model is large
    return made
