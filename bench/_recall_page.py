"""The page of bench.recall: one table, and what the papers claim beside what was seen. Every word of a verdict is computed from the figures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from models.memory.designs import DESIGNS

Figures = dict[str, Any]
Measure = Callable[[Figures], float]

HEAD = """# Memories that the lab grew
<!-- written by `python -m bench.recall`; change that, not this -->

Every file here is one small net of two layers with another memory inside (models/memory), half precision, grown from nothing on pairs of keys and values that
are asked for later, and on passkeys in a haystack: 900 steps of 32 sequences of 128 tokens, the same tokens for all, about 52,000 trained parameters.
`python -m models.memory grow --all` grows them again, `python -m bench.recall` measures them.

{seeds}

*Recall* is the share of questions answered right, all tokens being possible; guessing a value gives 0.062. *Lag* is the distance from the value to its
question, with 16 pairs; *far* is in sequences of 512 tokens, four times as long as any that was practised. *Fidelity* swaps one stored value:
Jensen-Shannon divergence, in bits, of the answer at its question; *untrained* is the same net before it learned. *State* is what is carried after 128
tokens, and after 512. Times are of one CPU thread: a token of one sequence read step by step, and of 16 sequences read at
once.
{precision}"""
ONE = """**There is one seed so far**, so nothing here says how far another would differ, and no verdict is established. More seeds are taken up when they are
grown."""
MANY = "Figures are means over seeds, ± their standard deviation where there are several; the column *seeds* says how many."


def page(done: dict[str, Figures]) -> str:
    groups = {name: [done[k] for k in sorted(done) if k.rsplit("-", 1)[0] == name] for name in DESIGNS}
    groups = {name: group for name, group in groups.items() if group}
    most = max(map(len, groups.values()), default=0)
    head = HEAD.format(seeds=MANY if most > 1 else ONE, precision=precision(done))
    lines = [head, "## Recall", "", *table(groups, RECALL), "", "## Far, faithful, and at what cost", "", *table(groups, REST), ""]
    lines += ["## What the papers claim", ""]
    lines += [f"- {words}" for words in verdicts(done)]
    lines += inside(groups) + grown_on(groups)
    missing = [name for name in DESIGNS if name not in groups]
    if missing:
        lines += ["", f"Not measured yet: {', '.join(missing)}."]
    return "\n".join(lines) + "\n"


def precision(done: dict[str, Figures]) -> str:
    """What half precision costs, of the nets that were asked in both."""
    both = [f for f in done.values() if "half" in f]
    if not both:
        return ""
    most, differ = max(abs(f["single"] - f["half"]) for f in both), max(f["differ"] for f in both)
    return (f"\nHalf precision, in which weights are stored, changes recall by at most {most:.4f} ({len(both)} nets were asked in both before they were "
            f"written; at most {differ:.2%} of the answers are others).\n")


def inside(groups: dict[str, list[Figures]]) -> list[str]:
    """A window that was little practised: where it does not recall all that it still holds, that is said."""
    if not {"window", "full"} <= set(groups):
        return []
    own = float(np.mean([f["lag"][i] for f in groups["window"] for i in (0, 1, 2)]))
    cut = float(np.mean([f["cut"]["window"] for f in groups["full"]]))
    if own > cut - 0.05:
        return []
    return ["", f"**The window alone is under-trained.** It holds the last 32 tokens, yet recalls only {own:.2f} of what was asked at lags 1 to 28; the net "
            f"grown with full attention and cut to the same window recalls {cut:.2f} there. Most questions that it is trained on ask for what it has lost. "
            "Sinks and window share this, and LongMem is built on it: their figures inside the window say what this recipe gave, not what a window can hold."]


def grown_on(groups: dict[str, list[Figures]]) -> list[str]:
    """Where the nets were grown: the seconds of one machine are not those of another."""
    places: dict[str, list[str]] = {}
    for name, group in groups.items():
        for f in group:
            places.setdefault(f"torch {f['torch'].split('+')[0]} on {'a GPU' if f['device'] == 'cuda' else 'a CPU'}", []).append(name)
    said = "; ".join(f"{place}: {', '.join(dict.fromkeys(names))}" for place, names in places.items())
    return ["", f"Grown with {said}. Their seconds are of the processor alone, on more than one machine: a rough guide to the cost."]


def at(*path: str | int) -> Measure:
    def read(figures: Figures) -> float:
        found: Any = figures
        for step in path:
            found = found[step]
        return float("nan") if found is None else float(found)
    return read


RECALL: dict[str, tuple[Measure, int]] = {
    "4 pairs": (at("load", "4"), 2), "16 pairs": (at("load", "16"), 2), "30 pairs": (at("load", "30"), 2), "lag 1-8": (at("lag", 0), 2),
    "17-28": (at("lag", 2), 2),
    "33-64": (at("lag", 3), 2), "65-96": (at("lag", 4), 2), "97-127": (at("lag", 5), 2), "passkey": (at("passkey", "128"), 2)}
REST: dict[str, tuple[Measure, int]] = {
    "far, lag 33-127": (at("far", 1), 2), "128-255": (at("far", 2), 2), "256-511": (at("far", 3), 2),
    "passkey in 512": (at("passkey", "512"), 2), "fidelity": (at("fidelity mean"), 2),
    "untrained": (at("fidelity untrained"), 3), "state, bytes": (at("bytes", "128"), 0), "after 512": (at("bytes", "512"), 0),
    "step, us": (at("step us"), 0), "at once, us": (at("forward us"), 1), "parameters": (at("parameters"), 0), "grown in CPU-s": (at("growing"), 0)}


def table(groups: dict[str, list[Figures]], columns: dict[str, tuple[Measure, int]]) -> list[str]:
    lines = ["| memory | seeds | " + " | ".join(columns) + " |", "|---" * (len(columns) + 2) + "|"]
    for name, group in groups.items():
        cells = [spread(np.array([measure(f) for f in group]), places) for measure, places in columns.values()]
        lines.append(f"| {DESIGNS[name].title} | {len(group)} | " + " | ".join(cells) + " |")
    return lines


def spread(found: np.ndarray, places: int) -> str:
    if np.isnan(found).all():
        return "-"
    many = len(found) > 1 and found.std(ddof=1) >= 0.5 * 10.0**-places
    return f"{found.mean():,.{places}f}" + (f" ± {found.std(ddof=1):,.{places}f}" if many else "")


def distance(figures: Figures) -> float:
    """Mean recall over the lags past 32, at the trained length."""
    return float(np.mean([figures["lag"][i] for i in (3, 4, 5)]))


def paired(done: dict[str, Figures], one: str, two: str, measure: Measure) -> np.ndarray:
    """The difference one - two, seed by seed."""
    seeds = [s for s in range(100) if f"{one}-{s}" in done and f"{two}-{s}" in done]
    return np.array([measure(done[f"{one}-{s}"]) - measure(done[f"{two}-{s}"]) for s in seeds])


def compare(done: dict[str, Figures], claim: str, one: str, two: str, what: str, measure: Measure) -> str:
    """One seed establishes nothing: its figures are given. Of several: reproduced where the difference has the claimed sign in every seed and its mean is
    above twice its standard error; not, where the mean has the other sign or is nothing; else undecided."""
    found = paired(done, one, two, measure)
    if not len(found):
        return f"{claim}: not measured."
    if len(found) == 1:
        a, b = (next(measure(done[k]) for k in sorted(done) if k.rsplit("-", 1)[0] == name) for name in (one, two))
        return f"{claim}: **one seed: not established**. {what}: {a:.3f} against {b:.3f}, {found[0]:+.3f}: {leaning(found[0])}."
    mean, error = found.mean(), found.std(ddof=1) / len(found) ** 0.5
    word = "undecided"
    if (found > 0).all() and mean > 2 * error:
        word = "reproduced"
    elif mean < 0 or abs(mean) < 0.005:
        word = "not reproduced"
    a, b = (float(np.mean([measure(done[k]) for k in done if k.rsplit("-", 1)[0] == name])) for name in (one, two))
    return (f"{claim}: **{word}**. {what}: {a:.3f} against {b:.3f}; difference seed by seed {', '.join(f'{d:+.3f}' for d in found)} "
            f"(mean {mean:+.3f}, standard error {error:.3f}).")


def leaning(difference: float) -> str:
    return "no difference" if abs(difference) < 0.005 else "as claimed" if difference > 0 else "the other way round"


def cut(done: dict[str, Figures]) -> str:
    """StreamingLLM's claim on the nets that were grown with full attention, their caches cut afterwards."""
    found = [done[k]["cut"] for k in sorted(done) if k.rsplit("-", 1)[0] == "full" and "cut" in done[k]]
    if not found:
        return "Sinks and a window are stable where a window alone collapses: not measured."
    full, window, sinks = (np.array([f[name] for f in found]) for name in ("full", "window", "sinks"))
    collapses, stable = (window < full - 0.1).all(), (sinks > full - 0.05).all()
    word = "reproduced" if collapses and stable else "not reproduced"
    if len(found) == 1:
        word = f"one seed: not established, {'as claimed' if collapses and stable else 'not as claimed'}"
    past = [np.mean([f[f"{name}, outside"] for f in found]) for name in ("window", "sinks")]
    why = " The window alone did not collapse." if not collapses else "" if stable else " The sinks did not keep it stable."
    return (f"Sinks and a window are stable where a window alone collapses (Xiao et al. 2023): **{word}** on nets grown with full attention whose cache is "
            f"cut to 32 tokens.{why} Recall inside the window (lags to 28, 512 tokens): all kept {full.mean():.3f}, window {listed(window)}, sinks and window "
            f"{listed(sinks)}. Past it both lose what they dropped: {past[0]:.3f} and {past[1]:.3f}.")


def listed(values: np.ndarray) -> str:
    return "/".join(f"{v:.3f}" for v in values)


def verdicts(done: dict[str, Figures]) -> list[str]:
    load, lag = "Recall, 16 pairs", "Recall at lags past 32, 16 pairs"
    much, few = at("load", "30"), at("load", "16")
    far = at("far", 2)
    return [
        compare(done, "MemMamba remembers over distance where Mamba-2 forgets", "memmamba", "mamba2", lag, distance),
        compare(done, "The same beyond the trained length", "memmamba", "mamba2", "Recall at lags 128 to 255, 512 tokens", far),
        compare(done, "MemMamba's attention across layers helps", "memmamba", "memmamba-own", lag, distance),
        compare(done, "Titans' memory above linear attention", "titans", "linear", load, few),
        compare(done, "The same under load", "titans", "linear", "Recall, 30 pairs", much),
        compare(done, "Titans' momentum helps", "titans", "titans-no-momentum", "Recall, 30 pairs", much),
        compare(done, "Titans' forgetting helps", "titans", "titans-no-forgetting", "Recall, 30 pairs", much),
        compare(done, "The same beyond the trained length", "titans", "titans-no-forgetting", "Recall at lags 128 to 255, 512 tokens", far),
        compare(done, "Memory as context above the memory alone", "titans-mac", "titans", load, few),
        compare(done, "Memory as gate above the memory alone", "titans-mag", "titans", load, few),
        compare(done, "Memory as layer above the memory alone", "titans-mal", "titans", load, few),
        compare(done, "Mixture of Memories above linear attention", "mom", "linear", load, few),
        compare(done, "The same under load", "mom", "linear", "Recall, 30 pairs", much),
        compare(done, "Routing lessens interference: on against off, at the same state size", "mom", "mom-dense", "Recall, 30 pairs", much),
        compare(done, "The delta rule above adding (DeltaNet against linear attention)", "delta", "linear", "Recall, 30 pairs", much),
        compare(done, "A gate helps the delta rule beyond the trained length", "gated-delta", "delta", "Recall at lags 128 to 255, 512 tokens", far),
        compare(done, "LongMem's side network finds what left the window of its frozen backbone", "longmem", "window", lag, distance),
        compare(done, "First tokens kept beside the window beat the window alone, as many in all (JanusVLN's memory)", "sinks", "window", lag, distance),
        cut(done),
    ]
