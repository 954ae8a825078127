"""The figure of bench.memorization: measures by copies, and membership AUC beside its interval."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

Cells = Mapping[str, Mapping[int, tuple[float, float]]]  # measure -> copies -> mean, standard error
Rows = Mapping[tuple[str, str], tuple[float, float, float]]  # (kind, score) -> AUC, low, high

SHARES = ("probability", "extraction strength", "exact memorization", "ROUGE-L", "recall", "exposure share")
BENT = ("squared input curvature", "Fisher trace", "gradient norm")
COLOURS = ("#0b3c6f", "#2a7f9e", "#6a8f3c", "#d08a1d", "#b4443a", "#6d4a8c")
MARKS = {"scribe": "o", "scribe-oracle-a": "s", "scribe-oracle-b": "D"}


def draw(cells: Mapping[str, Cells], rows: Mapping[str, Rows], path: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 4, figsize=(17, 4.8), layout="constrained", width_ratios=(1, 1, 1, 1.5))
    for axis, (kind, measures) in zip(axes, cells.items(), strict=False):
        lines(axis, {n: measures[n] for n in SHARES if measures.get(n)})
        axis.set(title=f"{kind}: share ± standard error", ylim=(-0.05, 1.05))
        axis.legend(fontsize=7.5, frameon=False)
    lines(axes[2], {n: cells["passage"][n] for n in BENT})
    axes[2].set(title="passage: curvature ± standard error", yscale="log")
    axes[2].legend(fontsize=7.5, frameon=False)
    intervals(axes[3], rows)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def lines(axis: Any, measures: Cells) -> None:
    """Means over items at evenly spaced copy counts."""
    counts = sorted({c for m in measures.values() for c in m})
    for (name, by), colour in zip(measures.items(), COLOURS, strict=False):
        axis.errorbar([counts.index(c) for c in by], [m for m, _ in by.values()], [e for _, e in by.values()], label=name, color=colour, marker="o",
                      markersize=3.5, capsize=2)
    axis.set(xlabel="copies in the corpus", xticks=range(len(counts)), xticklabels=counts)


def intervals(axis: Any, rows: Mapping[str, Rows]) -> None:
    names = list(next(iter(rows.values())))
    for shift, (model, cells) in zip((-0.22, 0.0, 0.22), rows.items(), strict=True):
        value = [cells[n] for n in names]
        axis.errorbar([v for v, _, _ in value], [i + shift for i in range(len(names))], xerr=[[v - a for v, a, _ in value], [b - v for v, _, b in value]],
                      fmt=MARKS[model], markersize=4, linewidth=1, label=model, color=COLOURS[0] if model == "scribe" else COLOURS[3 + "ab".index(model[-1])])
    axis.axvline(0.5, color="grey", linewidth=0.8, linestyle=":")
    axis.set(title="membership AUC, 95 % interval", xlim=(-0.03, 1.03), yticks=range(len(names)), yticklabels=[f"{k}: {n}" for k, n in names])
    axis.tick_params(axis="y", labelsize=7.5)
    axis.invert_yaxis()
    axis.legend(fontsize=7.5, frameon=False, loc="lower left")
