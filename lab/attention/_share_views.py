"""Figures of heads that share: similarities as a grid, and costs as curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from lab.events import Curves, Grid

if TYPE_CHECKING:
    from lab.attention.sharing import HeadSharing

UNITS = {"loss": "nats a token", "recall": "share of answers recited"}
DIRECTIONS = {"loss": "higher: fusing costs more", "recall": "higher: more is kept"}


def similarity(settings: HeadSharing, alike: Mapping[int, np.ndarray], texts: int) -> Grid:
    """Head against head, within a layer, the layers one below the other."""
    heads = max(map(len, alike.values()))
    value = np.concatenate([np.pad(a, ((0, 0), (0, heads - len(a))), constant_values=np.nan) for a in alike.values()])
    rows = tuple(f"layer {layer} head {h}" for layer, a in alike.items() for h in range(len(a)))
    others = {layer: a[~np.eye(len(a), dtype=bool)] for layer, a in alike.items() if len(a) > 1}
    facts = [f"{settings.of} of the {settings.part}, {settings.by}" + (f", on {texts} texts" if settings.of == "outputs" else "")]
    if others:
        best = max(others, key=lambda layer: others[layer].max())
        i, j = np.unravel_index(np.argmax(np.where(np.eye(len(alike[best]), dtype=bool), -np.inf, alike[best])), alike[best].shape)
        facts += [f"the most alike are heads {i} and {j} of layer {best}, {alike[best][i, j]:.2f}",
                  f"mean over pairs of heads {np.concatenate(list(others.values())).mean():.2f}"]
    scale = "0 to 1" if settings.by == "CKA" else "-1 to 1"
    return Grid(f"How alike heads of {settings.part} are", rows, tuple(f"head {h}" for h in range(heads)), "head", "head", value, np.full_like(value, np.nan),
                f"{settings.by}, {scale}", "higher: more alike, so that one could stand for both", tuple(facts), diverging=settings.by == "cosine")


class Costs:
    """What was measured of every line at every number of heads, texts apart, so that errors are those of the difference."""

    def __init__(self, settings: HeadSharing, lines: Sequence[str], kept: Sequence[int], texts: int, layers: int) -> None:
        self.settings, self.lines, self.kept, self.texts, self.layers = settings, tuple(lines), list(kept), texts, layers
        self.value = np.full((len(lines), len(kept), texts), np.nan)

    def undisturbed(self, found: Mapping[str, np.ndarray]) -> None:
        self.value[:, 0] = found[self.settings.measure]

    def put(self, line: str, heads: int, found: Mapping[str, np.ndarray]) -> None:
        self.value[self.lines.index(line), self.kept.index(heads)] = found[self.settings.measure]

    def view(self) -> Curves:
        """Means over texts; the band is a standard error of the difference from the undisturbed model, text by text."""
        s, order = self.settings, np.argsort(self.kept)
        change = self.value - self.value[:, :1]
        error = change.std(2, ddof=1) / self.texts**0.5 if self.texts > 1 else np.full(change.shape[:2], np.nan)
        return Curves(f"What it costs to let heads share, {s.fusion} fusion", self.lines, np.array(self.kept, float)[order],
                      "heads of keys or values a layer" + ("" if s.budget == "equal" else ", on average"), self.value.mean(2)[:, order], error[:, order],
                      UNITS[s.measure], DIRECTIONS[s.measure], self.facts())

    def facts(self) -> tuple[str, ...]:
        mean = self.value.mean(2)
        lines = [f"{self.texts} texts, {self.layers} layers; heads grouped by {self.settings.by} of {self.settings.of}",
                 f"undisturbed {mean[0, 0]:.3f} {UNITS[self.settings.measure]}; bands: standard errors of the difference from it, text by text"]
        half = max((i for i, k in enumerate(self.kept) if k * 2 >= self.kept[0]), default=0)
        if half and np.isfinite(mean[:, half]).all():
            said = ", ".join(f"{name} {mean[i, half] - mean[i, 0]:+.3f}" for i, name in enumerate(self.lines))
            lines.append(f"with {self.kept[half]} of {self.kept[0]} heads: {said}")
        return tuple(lines)
