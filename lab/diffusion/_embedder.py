"""The copy-detection embedder that was grown with an organism, where there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.diffusion._similar import Embedder

if TYPE_CHECKING:
    from models.model import Model


def embedder(model: Model) -> Embedder | None:
    """Pictures in 0 to 1 -> features of norm 1; None for a model without one."""
    return None
