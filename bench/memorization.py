"""Do the measures of memorization rise with the copies, and does membership inference tell what was read? `python -m bench.memorization`
writes models/weights/scribe/memorization.md and memorization.png.

Every figure of these files comes from here; what goes against the published direction is written as such.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.stats import rankdata, spearmanr

from bench._memorization_figure import draw
from bench.organism import ORACLES, table
from lab.data import data_for
from lab.events import Survey
from lab.experiment import find, read
from lab.items import Item, planted
from lab.memorization._measures import MEASURES, Measure, measured
from models import catalog

MODELS = ("scribe", *ORACLES)
REFERENCE = {"scribe": "scribe-oracle-a", "scribe-oracle-a": "scribe-oracle-b", "scribe-oracle-b": "scribe-oracle-a"}
REPEATED = ("passage", "canary")  # kinds that stand in the corpus as often as they were planned to
MEMBERSHIP = ("loss", "loss / zlib", "min-k %", "min-k++ %", "loss - reference")
BENT = ("input curvature", "squared input curvature", "Fisher trace", "gradient norm", "low-curvature share")
RESAMPLES = 2000


@dataclass(frozen=True)
class Found:
    """`value[i, m]` is measure m of item i under one model, `copies[i]` how often that model read it."""

    items: tuple[Item, ...]
    copies: np.ndarray
    names: tuple[str, ...]
    value: np.ndarray

    def of(self, name: str, mask: np.ndarray) -> np.ndarray:
        return self.value[mask, self.names.index(name)]

    def kind(self, kind: str) -> np.ndarray:
        return np.array([i.kind == kind for i in self.items])


def measure(name: str, probes: int) -> Found:
    """All measures of the passages, the canaries, the authors to be forgotten and those that were never read."""
    model, reference = catalog.load(name), catalog.load(REFERENCE[name])
    data = data_for(model)
    assert data.manifest is not None
    items = [i for i in planted(data.manifest) if i.kind in REPEATED or i.split in ("forget_2", "forget_10", "holdout")]
    names = tuple(m.name for m in MEASURES)
    value = measured(model, items, names, reference=reference)
    *_, bent = read(find("memorization.curvature"), {"items": "passage\ncanary", "probes": probes}).run(model, data)
    assert isinstance(bent, Survey) and bent.measures == BENT
    place = {n: i for i, n in enumerate(bent.items)}
    more = np.array([bent.value[place[i.name]] if i.name in place else np.full(len(BENT), np.nan) for i in items])
    return Found(tuple(items), np.array([i.copies for i in items]), names + BENT, np.concatenate([value, more], 1))


def measures() -> list[Measure]:
    from lab.memorization._curvature import MEASURES as CURVED

    return [*MEASURES, *CURVED]


def compared(found: Found, kind: str, name: str) -> np.ndarray:
    """Which items are compared: of one kind, where there is a figure. The reference of a loss must not have read them, so what both read is left out."""
    mine = found.kind(kind) & np.isfinite(found.value[:, found.names.index(name)])
    return mine & np.array([i.split != "retain" for i in found.items]) if name == "loss - reference" else mine


def by_copies(found: Found, kind: str, name: str) -> dict[int, tuple[float, float]]:
    """Copies -> mean and its standard error."""
    mine, rows = compared(found, kind, name), {}
    for c in np.unique(found.copies[mine]).tolist():
        x = found.of(name, mine & (found.copies == c))
        rows[c] = (float(x.mean()), float(x.std(ddof=1) / np.sqrt(len(x))) if len(x) > 1 else float("nan"))
    return rows


def rho(found: Found, kind: str, name: str) -> tuple[float, float]:
    """Spearman's rank correlation with the copies, over items, and its p-value; NaN where there is nothing to rank."""
    mine = compared(found, kind, name)
    x = found.of(name, mine)
    if len(x) < 3 or not np.ptp(x) or not np.ptp(found.copies[mine]):
        return float("nan"), float("nan")
    result = spearmanr(x, found.copies[mine])
    return float(result.statistic), float(result.pvalue)


def auc(member: np.ndarray, other: np.ndarray) -> float:
    """Chance that a member scores higher than another item; ties count half."""
    ranks = rankdata(np.concatenate([member, other]))[: len(member)]
    return float((ranks.sum() - len(member) * (len(member) + 1) / 2) / (len(member) * len(other)))


def interval(member: Sequence[np.ndarray], other: Sequence[np.ndarray], seed: int = 0) -> tuple[float, float, float]:
    """AUC with the 95 % interval of a bootstrap over groups: the facts of one author are not independent of each other."""
    rng = np.random.default_rng(seed)
    pick = [[np.concatenate([g[i] for i in rng.integers(len(g), size=len(g))]) for g in (member, other)] for _ in range(RESAMPLES)]
    low, high = np.percentile([auc(a, b) for a, b in pick], [2.5, 97.5])
    return auc(np.concatenate(member), np.concatenate(other)), float(low), float(high)


def grouped(found: Found, mask: np.ndarray, name: str, sign: int) -> list[np.ndarray]:
    """Scores, higher for members, of the items of each subject together; an item without a subject stands alone."""
    groups: dict[str, list[float]] = {}
    for i in np.flatnonzero(mask):
        item = found.items[i]
        groups.setdefault(item.subject or item.name, []).append(sign * found.value[i, found.names.index(name)])
    return [np.array(g) for g in groups.values()]


def attacks(found: Found) -> dict[tuple[str, str], tuple[float, float, float]]:
    """(kind, score) -> AUC and interval of what is to be forgotten against what no model read."""
    signs = {m.name: m.sign for m in measures()}
    rows = {}
    for kind in (*REPEATED, "author"):
        forget = np.array([i.kind == kind and i.split.startswith("forget") for i in found.items])
        never = np.array([i.kind == kind and i.split == "holdout" for i in found.items])
        for name in (*MEMBERSHIP, *(("truth ratio",) if kind == "author" else BENT[1:])):
            rows[kind, name] = interval(grouped(found, forget, name, signs[name]), grouped(found, never, name, signs[name]))
    return rows


def verdict(value: float, p: float, sign: int) -> str:
    if not p < 0.05:
        return "no trend (p ≥ .05)"
    return "as published" if value * sign > 0 else "**against the published direction**"


def copies_section(found: dict[str, Found], kind: str) -> str:
    """Means by copies under scribe, and the rank correlation under each model, whose own copies count."""
    scribe = found["scribe"]
    shown = [m for m in measures() if by_copies(scribe, kind, m.name)]
    counts = list(by_copies(scribe, kind, "loss"))
    rows = []
    for m in shown:
        cells = by_copies(scribe, kind, m.name)
        ranks = [rho(found[name], kind, m.name)[0] for name in MODELS]
        rows.append([m.name, "higher" if m.sign > 0 else "lower", *(f"{cells[c][0]:.3g} ± {cells[c][1]:.2g}" for c in counts),
                     *(f"{r:+.2f}" if np.isfinite(r) else "-" for r in ranks), verdict(*rho(scribe, kind, m.name), m.sign)])
    head = ["measure", "memorized is", *(f"{c} {'copy' if c == 1 else 'copies'}" for c in counts), *(f"ρ {name}" for name in MODELS), "scribe's ρ"]
    note = " Exposure is of codes of four digits." if kind == "canary" else ""
    return (f"## By copies: {'passages' if kind == 'passage' else 'canaries'}\nMean ± standard error over items under scribe, and Spearman's rank "
            f"correlation ρ with the copies that each model read.{note}\n\n{table(head, rows)}")


def attack_section(rows: dict[str, dict[tuple[str, str], tuple[float, float, float]]]) -> str:
    cells = [[kind, name, *("{:.2f} ({:.2f} to {:.2f})".format(*rows[m][kind, name]) for m in MODELS)] for kind, name in rows["scribe"]]
    inside = [low <= 0.5 <= high for m in ORACLES for _, low, high in rows[m].values()]
    outside = [f"{m}, {kind}, {name}" for m in ORACLES for (kind, name), (_, low, high) in rows[m].items() if not low <= 0.5 <= high]
    told = [low > 0.5 for _, low, _ in rows["scribe"].values()]
    counts = (f"Under scribe {sum(told)} of {len(told)} intervals lie above .5. Under the oracles, which read neither side, {sum(inside)} of "
              f"{len(inside)} hold .5" + (f"; the others: {'; '.join(outside)}." if outside else "."))
    return ("## Membership: what scribe is to forget against what no model read\nAUC, and its 95 % interval from a bootstrap over items (over authors, for "
            f"their facts). .5 is a guess; each score is turned so that memorized is higher.\n\n{table(['items', 'score', *MODELS], cells)}\n\n{counts}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--probes", type=int, default=4, help="random directions of each curvature")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    folder = Path("models/weights/scribe")
    found = {name: measure(name, args.probes) for name in MODELS}
    rows = {name: attacks(f) for name, f in found.items()}
    draw({kind: {n: by_copies(found["scribe"], kind, n) for n in found["scribe"].names} for kind in REPEATED}, rows, folder / "memorization.png")
    head = HEAD.format(probes=args.probes)
    parts = [head, "![measures by copies, and membership](memorization.png)", *(copies_section(found, kind) for kind in REPEATED), attack_section(rows)]
    (folder / "memorization.md").write_text("\n\n".join(parts) + "\n")


HEAD = """# Memorization of scribe, measured
<!-- written by `python -m bench.memorization`; change that, not this -->

Every measure of the Find page on the planted passages and canaries, whose copy counts are known, and membership inference under scribe and under its
two oracles. The reference of `loss - reference` is an oracle; for an oracle, the other one. By copies it is
measured over what the reference never read. Curvature is of the answer's loss, from {probes} random directions an item."""


if __name__ == "__main__":
    main()
