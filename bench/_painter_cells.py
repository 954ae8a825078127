"""Which captions are drawn, how often, at which guidance; and how near what is drawn comes to the training pictures."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8

from bench._painter_draws import Cell, drawn
from lab.data import data_for
from lab.diffusion._embedder import embedder
from lab.diffusion._similar import Gallery, floats, ssim
from lab.diffusion._training import Row, Truth, truth
from models import catalog
from models.model import Model
from models.organisms.painter.corpus import grounds, on
from models.organisms.painter.embedder import FILES, load
from models.organisms.painter.names import REGULAR

GUIDANCES = (1.0, 1.5, 2.0, 3.0, 5.0)
ORACLE_AT = (1.0, 2.0, 5.0)
MANY = (64, 256)  # copies of which the bar speaks
FEW, MORE = (0, 1), (2, 3, 4, 5)  # seeds of every planted caption; further seeds of those of MANY copies, at the default guidance
ORACLE_SEEDS = (0, 1, 2, 3)  # where there is no guidance
THIN, THINNER = 2, 6  # every second regular name is drawn, every sixth at the guidances that are not the default


@functools.cache
def known() -> Truth:
    """What the painter was grown on; its oracle is asked for the same."""
    model = catalog.load("painter", "cpu")
    return truth(model, data_for(model))


def planted() -> tuple[Row, ...]:
    return known().of("verbatim", "template")


def group(row: Row) -> str:
    return "template" if row.kind == "template" else str(row.copies)


def curve(model: Model, guidance: float) -> Cell:
    """The first caption of every planted picture."""
    seeds = {"painter-oracle": ORACLE_SEEDS if guidance == 1 else FEW, "painter-ddt": FEW[:1]}.get(model.name, FEW)  # guidance 1 takes half the time
    return Cell("planted", tuple(r.captions[0] for r in planted()), guidance, seeds)


def many(guidance: float) -> Cell:
    """The captions of many copies and the templates', from further seeds."""
    return Cell("many", tuple(r.captions[0] for r in planted() if r.kind == "template" or r.copies in MANY), guidance, MORE)


def held_captions() -> dict[str, str]:
    """Template captions that were never trained -> the name of their picture."""
    return {c: r["name"] for r in catalog.manifest("painter")["pictures"] for c in r.get("held_captions", ())}


def kept_back(guidance: float) -> Cell:
    return Cell("kept-back", tuple(held_captions()), guidance, FEW)


def regular(kind: str, guidance: float, thin: int = THIN) -> Cell:
    """One caption of every regular name: "plain", on a trained ground ("ground") or on one it was never shown on ("held")."""
    said = {"plain": lambda i, n: n, "ground": lambda i, n: on(n, grounds(n)[0][i % 8]), "held": lambda i, n: on(n, grounds(n)[1][i % 2])}[kind]
    return Cell(f"{kind}-{thin}", tuple(said(i, n) for i, n in enumerate(REGULAR))[::thin], guidance, (0,))


@dataclass(frozen=True, eq=False)
class Near:
    """Of every picture of a cell, (captions, seeds): SSIM with the nearest training picture, which that is, the copy detector's cosine with it."""

    ssim: Float[np.ndarray, "captions seeds"]
    index: Int[np.ndarray, "captions seeds"]
    cosine: Float[np.ndarray, "captions seeds"]


@functools.cache
def gallery() -> Gallery:
    return Gallery(floats(known().images), embedder(catalog.load("painter", "cpu")), known().compared)


def near(model: Model, cell: Cell) -> Near:
    found = drawn(model, cell)
    shape = found.shape[:2]
    parts = [gallery().nearest(floats(p)) for p in np.array_split(found.reshape(-1, *found.shape[2:]), max(1, found.size // 3072 // 64))]
    return Near(*(np.concatenate([getattr(p, k) for p in parts]).reshape(shape) for k in ("ssim", "index", "feature")))


def own(found: UInt8[np.ndarray, "captions seeds 32 32 3"], rows: Sequence[Row]) -> Float[np.ndarray, "captions seeds"]:
    """SSIM with the caption's own picture."""
    there = floats(known().images[[r.file for r in rows]]).repeat_interleave(found.shape[1], 0)
    return ssim(floats(found.reshape(-1, *found.shape[2:])), there).numpy().reshape(found.shape[:2])


def named(model: Model, cell: Cell, thin: int = THIN) -> Bool[np.ndarray, " captions"]:
    """Whether the namer says the name of the caption."""
    folder = catalog.load("painter", "cpu").folder
    assert folder is not None
    with torch.no_grad():
        said = load(folder / FILES["classifier"])(floats(drawn(model, cell)[:, 0])).argmax(1).numpy()
    return said == np.arange(len(REGULAR))[::thin]
