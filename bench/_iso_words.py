"""The leaderboard as a page: tables from the runs, and sentences on what reproduces, computed from the figures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

Record = dict[str, Any]
HEAD = ("method", "steps", "reached", "KL forget", "KL retain", "KL holdout", "retain accuracy", "retain loss", "general text: loss added", "forget quality p",
        "membership AUC", "depth", "cost a step", "cost in all")


def forget_quality(record: Record) -> float:
    """The mean p-value over the oracles that it is held against: an oracle is not held against itself."""
    return float(np.mean([v for k, v in record.items() if k.startswith("forget quality") and k != f"forget quality {record.get('name')}"]))


def spread(values: Iterable[float], digits: int = 3) -> str:
    """mean ± standard deviation over seeds; "-" where nothing is known."""
    known = [v for v in values if v is not None and not math.isnan(v)]
    if not known:
        return "-"
    mean = f"{np.mean(known):.{digits}f}"
    return f"{mean} ± {np.std(known, ddof=1):.{digits}f}" if len(known) > 1 else mean


def by_label(runs: Iterable[Record]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for run in runs:
        found.setdefault(run["label"], []).append(run)
    return {label: sorted(mine, key=lambda r: r["seed"]) for label, mine in found.items()}


def reached(run: Record, bar: float) -> bool:
    """Whether its forget loss came to that of the oracles: as the run itself saw it, on texts of its own, or, where it cannot watch, by its score."""
    return "forget loss reached" in run["ended"] if run["until"] else run["forget loss"] >= bar


def board(references: dict[str, Record], groups: dict[str, list[Record]], bar: float) -> list[list[str]]:
    """The rows of the table: the untouched model, the oracles, then every method by its KL to the oracles on the forget set."""
    first, *oracles = references
    base = references[first]["general text"]

    def scored(runs: Sequence[Record]) -> list[str]:
        def of(score: str, digits: int = 3) -> str:
            return spread((r[score] for r in runs), digits)

        return [of("KL forget", 2), of("KL retain"), of("KL holdout", 2), of("retain accuracy"), of("retain loss"),
                spread(r["general text"] - base for r in runs), spread((forget_quality(r) for r in runs), 2), of("membership AUC"), of("depth", 2)]

    rows = [[f"{first}, untouched", "0", "no", *scored([references[first]]), "-", "0"],
            ["an oracle against the other", "-", "-", *scored([references[o] | {"name": o} for o in oracles]), "-", "-"]]
    for label, runs in sorted(groups.items(), key=lambda g: float(np.mean([r["KL forget"] for r in g[1]]))):
        each = [r["cost"] / r["steps"] if r["steps"] else math.nan for r in runs]
        rows.append([label, spread((r["steps"] for r in runs), 0), f"{sum(reached(r, bar) for r in runs)} of {len(runs)}", *scored(runs),
                     spread(each, 2), spread((r["cost"] for r in runs), 0)])
    return rows


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["---"] * len(head), *rows))


def nearer(references: dict[str, Record], groups: dict[str, list[Record]], bar: float) -> str:
    """Whether any method ends nearer to the oracles on the forget set than the untouched model."""
    was = next(iter(references.values()))["KL forget"]
    apart = np.mean([r["KL forget"] for r in list(references.values())[1:]])
    mean = {label: float(np.mean([r["KL forget"] for r in runs])) for label, runs in groups.items()}
    ends = [label for label, value in mean.items() if value < was]
    there = [label for label in ends if all(reached(r, bar) for r in groups[label])]
    words = f"The untouched model is {was:.2f} nats a token from the oracles on the forget set; the oracles are {apart:.2f} from each other. "
    if not ends:
        best = min(mean, key=lambda k: mean[k])
        return words + f"**No method ends nearer**; the nearest is {best} ({mean[best]:.2f})."
    shown = ", ".join(f"{label} ({mean[label]:.2f})" for label in sorted(ends, key=lambda k: mean[k]))
    return words + (f"Nearer end {len(ends)} of {len(mean)}: {shown}; {len(there)} of these {len(ends)} also reached the oracles' forget loss in every run"
                    f"{': ' + ', '.join(there) if there else ''}.")


def geometric(groups: dict[str, list[Record]], pairs: Iterable[tuple[str, str]]) -> list[str]:
    """For each (plain, with GU): whether the retain loss is lower at equal forgetting, seed by seed."""
    lines = []
    for plain, other in pairs:
        if plain not in groups or other not in groups:
            continue
        both = [(a, b) for a in groups[plain] for b in groups[other] if a["seed"] == b["seed"]]
        lower = sum(b["retain loss"] < a["retain loss"] for a, b in both)
        verdict = "**reproduces**" if lower == len(both) else "**does not reproduce**" if not lower else "**holds for some seeds only**"
        seeds = "; ".join(f"seed {a['seed']}: {a['retain loss']:.3f} to {b['retain loss']:.3f} (forget loss {a['forget loss']:.2f} and {b['forget loss']:.2f})"
                          for a, b in both)
        cost = np.mean([b["cost"] / max(b["steps"], 1) for _, b in both]) / np.mean([a["cost"] / max(a["steps"], 1) for a, _ in both])
        lines.append(f"{plain}: GU lowers the retain loss at equal forgetting in {lower} of {len(both)} seeds, {verdict}; {seeds}. "
                     f"A step costs {cost:.2f} times as much.")
    return lines


def dampening(references: dict[str, Record], runs: Sequence[Record]) -> str:
    """SSD: does one pass forget, and what is left over against the oracles?"""
    first, *oracles = references
    own, oracle = (np.mean([references[name]["forget accuracy"] for name in names]) for names in ([first], oracles))
    ends, kept = (float(np.mean([r[score] for r in runs])) for score in ("forget accuracy", "retain accuracy"))
    loss, bar = float(np.mean([r["forget loss"] for r in runs])), float(np.mean([references[o]["forget loss"] for o in oracles]))
    cost = float(np.mean([r["cost"] for r in runs]))
    forgot = ends < 0.5 * own
    verdict = "**reproduces**" if forgot and kept > 0.9 * references[first]["retain accuracy"] else \
        "**forgets, but not without harm**" if forgot else "**does not reproduce**"
    left = float(np.mean([r["KL forget"] for r in runs]))
    return (f"SSD forgets in one pass without training, {verdict}: forget accuracy {own:.3f} to {ends:.3f} (oracles {oracle:.3f}), forget loss {loss:.2f} "
            f"(oracles {bar:.2f}), retain accuracy {kept:.3f}, at the cost of {cost:.0f} fine-tuning steps. Residue: {ends - oracle:+.3f} in accuracy against "
            f"the oracles and {left:.2f} nats a token in KL.")


def windows(groups: dict[str, list[Record]], chosen: str, others: Sequence[str], bar: float) -> str:
    """SHA256: do the layers that tracing chose beat other windows of the same size? Judged by the retain loss at equal forgetting."""
    mine, rest = groups[chosen], {label: groups[label] for label in others if label in groups}

    def loss(runs: Sequence[Record]) -> float:
        return float(np.mean([r["retain loss"] for r in runs]))

    def told(label: str, runs: Sequence[Record]) -> str:
        return f"{label}: retain loss {spread(r['retain loss'] for r in runs)}, forget loss {spread((r['forget loss'] for r in runs), 2)}, " \
               f"reached in {sum(reached(r, bar) for r in runs)} of {len(runs)}"

    equal = all(reached(r, bar) for runs in (mine, *rest.values()) for r in runs)
    beaten = [label for label, runs in rest.items() if loss(mine) < loss(runs)]
    verdict = "**reproduces**" if len(beaten) == len(rest) and equal else "**does not reproduce**" if not beaten else "**holds in part**"
    caveat = "" if equal else " Not all of them reached the oracles' forget loss, so they did not forget equally."
    return (f"The layers that tracing chose beat {len(beaten)} of {len(rest)} other windows of the same size by retain loss, {verdict}.{caveat} "
            + "; ".join(told(label, runs) for label, runs in ((chosen, mine), *rest.items())) + ".")
