"""The words and tables of bench/dori.json."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models import catalog

RESULTS = Path(__file__).with_name("dori.json")
REPLAY = "copies, share of noises"
HEAD = "### Pruning, trigger search and erasing: does the picture come back?"
BAR_PRUNED, BAR_STEP = 0.10, 1.15


def table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ("---",) * len(head), *rows))


def share(values: list[float]) -> str:
    return f"{sum(values) / len(values):.0%}" if values else "–"


def mean(values: list[float]) -> str:
    return f"{sum(values) / len(values):.2f}" if values else "–"


def pruning(found: dict[str, Any]) -> str:
    """What every method leaves of the replay of its prompt."""
    rows = []
    for how in dict.fromkeys(h for one in found.values() for h in one["pruned"]):
        each = [one["pruned"][how] for one in found.values() if how in one["pruned"]]
        rates = [e["rate"] for e in each]
        rows.append((how, f"{len(each)}", share([one["rate"] for one in found.values()]), share(rates), mean([e["ssim"] for e in each]),
                     f"{sum(r < BAR_PRUNED for r in rates)} of {len(rates)}", f"{sum(e['count'] for e in each) / len(each):.0f}",
                     share([e["others"] for e in each]), share([e["plain"] for e in each]), f"{sum(bool(e['appeared']) for e in each)}"))
    base = next(iter(found.values()))
    text = (f"Each prompt by itself; {base['seeds']} noises that no search saw, copies by SSIM above the organism's threshold. *Pruned*: neurons, or weights. "
            "*Other memories* and *plain captions*: share of copies of any training picture and share named right, where the prompt's own set is pruned; as it "
            f"is, {share([one['others'] for one in found.values()])} and {share([one['plain'] for one in found.values()])}. *Another picture*: prompts that "
            "now copy a picture that they did not copy before.")
    return text + "\n\n" + table(("method", "prompts", "copies before", "copies after", "SSIM after", "below 10 %", "pruned", "other memories",
                                  "plain captions", "another picture"), rows)


def searching(found: dict[str, Any]) -> str:
    """Which share of prompts comes back, by where the search starts."""
    rows = []
    for state in dict.fromkeys(s for one in found.values() for s in one["search"]):
        each = [one["search"][state] for one in found.values() if state in one["search"]]
        for kind in ("caption", "random", "other prompts"):
            mine, control = ([s for e in each for s in e[group] if s["start"] == kind] for group in ("memorized", "control"))
            back = [any(s["rate"] > 0.5 for s in e["memorized"] if s["start"] == kind) for e in each]
            rows.append((state, kind, f"{sum(back)} of {len(back)}", share([s["rate"] for s in mine]), mean([s["before"] for s in mine]),
                         mean([s["ssim"] for s in mine]), share([s["rate"] for s in control]), mean([s["ssim"] for s in control])))
    return ("*Comes back*: prompts of which a start draws copies from more than half of the noises. *Copies*: share of all noises and starts. Controls are "
            "pictures that were only trained augmented, searched for in the same models with the same budget.\n\n"
            + table(("model", "start", "comes back", "copies", "SSIM before", "SSIM after", "controls' copies", "controls' SSIM"), rows))


def tuning(runs: dict[str, Any]) -> str:
    """Every measurement of the runs that train."""
    parts = []
    for name, run in runs.items():
        names = [k for k in run["series"] if any(v is not None for v in run["series"][k])]
        rows = [(str(int(step)), *(("–" if run["series"][k][i] is None else f"{run['series'][k][i]:.3g}") for k in names))
                for i, step in enumerate(run["step"])]
        how = "; ".join(f"{k} {v}" for k, v in run.get("settings", {}).items())
        ended = run.get("ended") or "interrupted"
        parts.append(f"**{name}** ({run['seconds']:.0f} s on {run['device']}; {ended}{'; ' + how if how else ''})\n\n" + table(("steps", *names), rows))
    return "\n\n".join(parts)


def verdicts(results: dict[str, Any]) -> list[str]:
    """What the figures say of the claims."""
    lines, prompts = [], results.get("prompts", {})
    done = {k: v for k, v in prompts.items() if "pruned" in v}
    for how in dict.fromkeys(h for v in done.values() for h in v["pruned"]):
        rates = [v["pruned"][how]["rate"] for v in done.values() if how in v["pruned"]]
        if rates:
            lines.append(f"Pruning by {how}: {share(rates)} of noises still copy; {sum(r < BAR_PRUNED for r in rates)} of {len(rates)} prompts are below 10 %.")
    searched = {k: v for k, v in prompts.items() if "search" in v}
    for state in dict.fromkeys(s for v in searched.values() for s in v["search"]):
        each = [v["search"][state] for v in searched.values() if state in v["search"]]
        some = [any(s["rate"] > 0.5 for s in e["memorized"]) for e in each]
        random = [any(s["rate"] > 0.5 for s in e["memorized"] if s["start"] == "random") for e in each]
        control = [s["rate"] > 0.5 for e in each for s in e["control"]]
        lines.append(f"Search, {state}: {sum(some)} of {len(some)} prompts come back from some start, {sum(random)} from random numbers; "
                     f"{sum(control)} of {len(control)} searches for a control.")
    for name, run in results.get("runs", {}).items():
        for series in ("its prompt", "search from the caption", "search from random", "search afterwards", "other memories", "denoising loss"):
            values = [v for v in run["series"].get(series, []) if v is not None]
            if len(values) > 1:
                lines.append(f"{name}, {series}: {values[0]:.3g} before, {values[-1]:.3g} at the last of {len(values) - 1} further measurements.")
            elif values and series == "search afterwards":
                lines.append(f"{name}, {series}: {values[0]:.3g}.")
    if found := results.get("locality"):
        gap, sets = found["distances"], found["overlap"]
        named = ", ".join(f"{name} {gap[name]:.0f}" for name in gap if gap[name] is not None)
        lines.append(f"Where triggers lie, mean distances: {named}.")
        lines += [f"Overlap of what {way} prunes: " + ", ".join(f"{k} {v:.2f}" for k, v in row.items() if k != "size" and v is not None) + "."
                  for way, row in sets.items()]
    speed = results.get("speed")
    if speed:
        lines.append(f"A step of the search takes {speed['ratio']:.3f} times its bare forward and backward (at most {BAR_STEP}: "
                     f"{'met' if speed['ratio'] <= BAR_STEP else 'missed'}); {speed['starts']} starts, median of {speed['rounds']} rounds, {speed['device']}.")
    return lines


def judged(value: Any, threshold: float) -> Any:
    """The results with every rate counted anew from its scores: the threshold may have been set since."""
    if isinstance(value, list):
        return [judged(v, threshold) for v in value]
    if not isinstance(value, dict):
        return value
    found = {k: judged(v, threshold) for k, v in value.items()}
    return found | {"rate": sum(s > threshold for s in value["scores"]) / len(value["scores"])} if value.get("scores") else found


def finished(path: Path = RESULTS) -> dict[str, Any]:
    """All that was measured, with the threshold of a copy that the organism's manifest has now."""
    results = json.loads(path.read_text())
    if results["model"] in {e.name for e in catalog.entries("pictures")}:  # it may have been set since
        results["threshold"] = catalog.manifest(results["model"]).get("threshold") or results["threshold"]
    return results


def write(results: dict[str, Any], readme: Path) -> None:
    """Puts the section in the place of the one that stands in the README, or at its end."""
    text = readme.read_text() if readme.is_file() else ""
    before, _, rest = text.partition(HEAD)
    after = re.split(r"\n(?=##?#? )", rest, maxsplit=1)[1:]  # the next heading and all that follows
    readme.write_text("\n".join([f"{before.rstrip()}\n\n{page(results)}".lstrip(), *after]))


def page(results: dict[str, Any]) -> str:
    results = judged(results, results["threshold"])
    prompts = results.get("prompts", {})
    light = results.get("light", False)
    parts = [HEAD, f"`python -m bench.dori{' --light' if light else ''}` measures it: {results['model']}, {results['device']}, guidance "
             f"{results['guidance']:g}, {results['steps']} steps{', fewer noises, captions and controls than a whole measurement' if light else ''}."]
    parts += ["\n".join(f"- {line}" for line in verdicts(results))]
    pruned, searched = ({k: v for k, v in prompts.items() if key in v} for key in ("pruned", "search"))
    parts += [pruning(pruned)] if pruned else []
    parts += [searching(searched)] if searched else []
    parts += [local(results["locality"])] if results.get("locality") else []
    if results.get("perturb"):
        parts.append("Perturbing prompts at inference: " + "; ".join(results["perturb"]) + ".")
    parts += [tuning(results["runs"])] if results.get("runs") else []
    return "\n\n".join(p for p in parts if p) + "\n"


def local(found: dict[str, Any]) -> str:
    """How far triggers lie apart, and how much the sets of neurons agree."""
    def said(value: float | None) -> str:
        return "–" if value is None else f"{value:.2f}"

    names = list(found["distances"])
    apart = table(("pairs", "embeddings", "value neurons"), [(n, said(found["distances"][n]), said(found["activations"].get(n))) for n in names])
    kinds = [k for k in next(iter(found["overlap"].values())) if k != "size"]
    sets = table(("sets found by", "size", *kinds), [(way, f"{row['size']:.0f}" if row["size"] is not None else "–", *(said(row[k]) for k in kinds))
                                                     for way, row in found["overlap"].items()])
    return (f"**Is the memory at one place?** `python -m bench.dori --parts locality --starts {found['starts']}`: of {len(found['prompts'])} pictures ({', '.join(found['prompts'])}) "
            f"{found['starts']} searches each from random numbers, {found['steps']} steps, in the model as it is; {found['back']} of "
            f"{found['starts'] * len(found['prompts'])} bring their picture back and count as triggers. Mean Euclidean distances of embeddings, and of what "
            f"the value neurons answer, in standard deviations of {found['plain']} plain captions; {found['memories']} captions of at least 64 copies; "
            f"{found['cpu_seconds']:.0f} CPU-seconds in all.\n\n{apart}\n\nOverlap, intersection over union, 0 to 1, of the sets that are found for a caption "
            f"from {found['noises']} noises, for the same from {found['noises']} others, for another caption, and for triggers in the place of the caption; "
            f"*size* in neurons (nemo) or weights (wanda).\n\n{sets}")
