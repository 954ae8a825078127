"""The pictures that the painter's figures are counted on, drawn once and kept, so that an interrupted run goes on."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from lab.diffusion._sample import paint, start
from lab.diffusion._similar import bytes_of
from models import catalog
from models.model import Model
from models.organisms.painter.recipe import STEPS
from models.pipeline import nothing, pictures, words

KEPT = catalog.WEIGHTS / ".growing" / "painter-pictures"
ROWS = 8  # pictures at once


@dataclass(frozen=True)
class Cell:
    """Captions, each drawn from each seed's noise at one guidance. `part` names the captions, so it must change with them."""

    part: str
    captions: tuple[str, ...]
    guidance: float
    seeds: tuple[int, ...]

    def file(self, model: Model) -> Path:
        return KEPT / f"{model.name}-{model.fingerprint()[:8]}-{self.part}-{self.guidance:g}-{self.seeds[0]}-{self.seeds[-1]}.npz"


def drawn(model: Model, cell: Cell) -> UInt8[np.ndarray, "captions seeds 32 32 3"]:
    """The cell's pictures, from where they are kept or drawn now."""
    if (file := cell.file(model)).is_file():
        with np.load(file) as kept:
            if tuple(kept["captions"]) == cell.captions:
                return kept["pictures"]
    net, begun = pictures(model), time.process_time()
    with torch.no_grad():
        told, blank = net.embed(words(model, cell.captions)), nothing(model)
    noises = start(net, cell.seeds)
    pairs = [(k, s) for k in range(len(cell.captions)) for s in range(len(cell.seeds))]
    made = []
    for some in (pairs[i : i + ROWS] for i in range(0, len(pairs), ROWS)):
        made.append(bytes_of(paint(net, told[[k for k, _ in some]], blank, noises[[s for _, s in some]], STEPS, cell.guidance)))
    found = np.concatenate(made).reshape(len(cell.captions), len(cell.seeds), *made[0].shape[1:])
    KEPT.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(file, pictures=found, captions=np.array(cell.captions))
    print(f"{file.stem}: {len(pairs)} pictures, {time.process_time() - begun:.0f} processor seconds", flush=True)
    return found
