"""What an organism of pictures was grown on: its training pictures with their captions and copy counts, and what counts as a copy."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import UInt8

from lab import png
from models.errors import BrokenWeights

if TYPE_CHECKING:
    from lab.data import Data
    from models.model import Model

SHEET = "pictures.png"
THRESHOLD = 0.6  # of SSIM, where no manifest says it
PLANTED = ("verbatim", "template")


@dataclass(frozen=True)
class Row:
    """A line of the manifest: one picture with its captions, or captions without a fixed picture (`file` -1)."""

    id: str
    name: str
    captions: tuple[str, ...]
    copies: int
    kind: str  # "verbatim", "template", "regular" or "held"
    file: int


@dataclass(frozen=True, eq=False)
class Truth:
    """`rows` and pictures of the manifest; all empty for a model that the lab did not grow. `threshold`: SSIM above which a picture counts as a copy."""

    rows: tuple[Row, ...]
    images: UInt8[np.ndarray, "pictures side side 3"]
    threshold: float
    guidance: float
    steps: int

    @functools.cached_property
    def compared(self) -> tuple[int, ...]:
        """The pictures that a drawn one is compared with: all but those that are held out."""
        return tuple(sorted({r.file for r in self.rows if r.file >= 0 and r.kind != "held"}))

    def of(self, *kinds: str) -> tuple[Row, ...]:
        return tuple(r for r in self.rows if r.kind in kinds)

    def name(self, index: int) -> str:
        """What picture `index` of the sheet is called, and how often it stood in training."""
        row = self.by_file.get(index)
        return f"picture {index}" if row is None else f"{row.captions[0] if row.captions else row.name} · {copies(row)}"

    @functools.cached_property
    def by_file(self) -> dict[int, Row]:
        return {r.file: r for r in reversed(self.rows) if r.file >= 0}

    @functools.cached_property
    def by_caption(self) -> dict[str, Row]:
        return {_plain(c): r for r in reversed(self.rows) for c in r.captions}

    def row(self, caption: str) -> Row | None:
        """The first line that a caption belongs to; planted pictures stand before others."""
        return self.by_caption.get(_plain(caption))


def _plain(caption: str) -> str:
    return " ".join(caption.lower().split())


def copies(row: Row) -> str:
    if not row.copies:
        return "never trained"
    return {"verbatim": f"{row.copies} copies", "template": f"{row.copies} copies, many captions"}.get(row.kind, "only augmented")


def truth(model: Model, data: Data) -> Truth:
    """What is known of a model's training pictures. Raises `BrokenWeights` where the manifest and the sheet do not fit each other."""
    manifest = data.manifest if data.manifest and data.manifest.get("task") == "pictures" else None
    if manifest is None or model.folder is None:
        return Truth((), np.zeros((0, 0, 0, 3), np.uint8), THRESHOLD, 7.5, 50)
    rows = tuple(_row(r) for r in manifest["pictures"])
    sheets = tuple(model.folder / n for n in manifest.get("sheets", [SHEET]))
    images = _sheets(tuple((p, p.stat().st_mtime_ns) for p in sheets if p.is_file()), int(manifest.get("side", 32)))
    if rows and max(r.file for r in rows) >= len(images):
        raise BrokenWeights(f"the manifest of {model.folder.name} names picture {max(r.file for r in rows)}, but its sheet holds {len(images)}",
                            f"{SHEET} is missing or of another organism", "Regrow it")
    return Truth(rows, images, float(manifest.get("threshold") or THRESHOLD), float(manifest.get("guidance", 1.0)), int(manifest.get("steps", 20)))


def _row(row: Mapping[str, Any]) -> Row:
    file = row.get("file")
    return Row(str(row["id"]), str(row["name"]), tuple(row["captions"]), int(row.get("copies", 0)), str(row["kind"]), -1 if file is None else int(file))


@functools.lru_cache(maxsize=4)
def _sheets(paths: tuple[tuple[Path, int], ...], side: int) -> np.ndarray:
    """The pictures of all sheets, row by row; read only."""
    found = [np.zeros((0, side, side, 3), np.uint8)]
    for path, _ in paths:
        whole = png.file(path, "model")
        high, wide = whole.shape[0] // side, whole.shape[1] // side
        found.append(whole[: high * side, : wide * side].reshape(high, side, wide, side, 3).swapaxes(1, 2).reshape(-1, side, side, 3))
    images = np.concatenate(found)
    images.flags.writeable = False
    return images
