"""The copy-detection embedder that was grown with an organism, where there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.diffusion._similar import Embedder

NAME = "embedder.safetensors"

if TYPE_CHECKING:
    from models.model import Model


def embedder(model: Model) -> Embedder | None:
    """Pictures in 0 to 1 -> features of norm 1; None for a model without one."""
    file = (model.folder / NAME) if model.folder else None
    if file is None or not file.is_file():
        return None
    from models.organisms.painter.embedder import features

    return features(file)
