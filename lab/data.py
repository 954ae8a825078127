"""What an experiment knows beside the model: its known facts, from the manifest of an organism or from the bundled table."""

from __future__ import annotations

import csv
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models import catalog

if TYPE_CHECKING:
    from models.model import Model

ASSETS = Path(__file__).parents[1] / "assets"


@dataclass(frozen=True)
class Data:
    """`subjects`: names that the model has facts about. `manifest`: all that an organism saw, None for any other model.

    `oracles`: names, for the catalog, of models of the same recipe and corpus that never read what the manifest marks to be forgotten.
    """

    subjects: tuple[str, ...]
    manifest: Mapping[str, Any] | None = None
    oracles: tuple[str, ...] = ()


def data_for(model: Model) -> Data:
    """The truth about an organism, or, for a model whose training set nobody knows, the countries of the bundled table as subjects."""
    path = model.folder / "manifest.json" if model.folder else None
    manifest = read_manifest(path) if path and path.is_file() else None
    return Data(tuple(manifest.get("subjects", ())) if manifest else countries(), manifest, oracles_of(manifest) if manifest else ())


def oracles_of(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """The bundled oracles grown by the recipe of this organism, but for the seed of their weights, on its corpus without the forget set."""
    def same(recipe: Mapping[str, Any]) -> dict[str, Any]:
        return {k: v for k, v in recipe.items() if k not in ("name", "title", "about", "seed", "oracle")}

    mine = manifest.get("recipe", {})
    found = {e.name: catalog.manifest(e.name).get("recipe", {}) for e in catalog.entries(manifest.get("task", "text")) if e.kind == "organism"} if mine else {}
    return tuple(name for name, recipe in found.items() if recipe.get("oracle") and not mine.get("oracle") and same(recipe) == same(mine))


@functools.lru_cache(maxsize=4)
def read_manifest(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


@functools.cache
def countries() -> tuple[str, ...]:
    with open(ASSETS / "corpus" / "countries.csv", newline="") as file:
        return tuple(row["name"] for row in csv.DictReader(file))
