"""What an experiment knows beside the model: its known facts, from the manifest of an organism or from the bundled table."""

from __future__ import annotations

import csv
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.model import Model

ASSETS = Path(__file__).parents[1] / "assets"


@dataclass(frozen=True)
class Data:
    """`subjects`: names that the model has facts about. `manifest`: all that an organism saw, None for any other model."""

    subjects: tuple[str, ...]
    manifest: Mapping[str, Any] | None = None


def data_for(model: Model) -> Data:
    """The truth about an organism, or, for a model whose training set nobody knows, the countries of the bundled table as subjects."""
    path = model.folder / "manifest.json" if model.folder else None
    manifest = read_manifest(path) if path and path.is_file() else None
    return Data(tuple(manifest["subjects"]) if manifest else countries(), manifest)


@functools.lru_cache(maxsize=4)
def read_manifest(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


@functools.cache
def countries() -> tuple[str, ...]:
    with open(ASSETS / "corpus" / "countries.csv", newline="") as file:
        return tuple(row["name"] for row in csv.DictReader(file))
