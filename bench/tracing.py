"""Engines of causal tracing side by side: `python -m bench.tracing` times them in one run and writes bench/tracing.json.

Every engine is a process of its own with one thread, loads the same folder in float32, adds the same noise, and makes the same map; the engines take
turns, so that whatever else the machine does falls on all. Times are those of the processor, not of the clock. An engine that cannot be installed
or run stands in the report with the reason.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench._peers import CACHE, PEERS, Unavailable, Worker, answer, python

MODELS = ("six layers", "eight layers", "gpt2")


@dataclass(frozen=True)
class Entrant:
    """`reference` is the plain loop that makes the same map; `exact` is False where the map is a first-order approximation of it."""

    title: str
    module: str
    kind: str
    reference: str
    exact: bool = True
    peer: str = ""  # whose environment it runs in; this one if empty

    @property
    def key(self) -> str:
        return f"{self.module.strip('_')} {self.kind}"


ENTRANTS = (
    Entrant("plain loop, hidden states", "_loop", "hidden", "loop hidden"),
    Entrant("TransformerLens 2.16.1", "_transformer_lens", "hooked", "loop hidden", peer="transformer_lens"),
    Entrant("TransformerLens 4.3.0", "_transformer_lens", "bridge", "loop hidden", peer="transformer_lens_4"),
    Entrant("nnsight 0.8.1", "_nnsight", "hidden", "loop hidden", peer="nnsight"),
    Entrant("Mnemoscope, hidden states", "_ours", "hidden", "loop hidden"),
    Entrant("Mnemoscope, attribution patching alone", "_ours", "attribution", "loop hidden", exact=False),
    Entrant("Mnemoscope, first picture (attribution patching and the check of a cell)", "_ours", "preview", "loop hidden", exact=False),
    Entrant("plain loop, MLP windows of 10", "_loop", "mlp", "loop mlp"),
    Entrant("Mnemoscope, MLP windows of 10", "_ours", "mlp", "loop mlp"),
)


@dataclass
class Record:
    """What one entrant did; `error` says why it did nothing (more)."""

    seconds: list[float] = field(default_factory=list)
    map: list[list[float]] = field(default_factory=list)
    logits: float = 0.0  # largest difference of its network's logits from those of the saved one
    peak: int = 0  # bytes, of the whole process
    error: str = ""


def race(folder: Path, entrants: tuple[Entrant, ...], repeats: int, cache: Path) -> dict[str, Record]:
    """Every entrant `repeats` times, in turns, each round beginning with another one."""
    records = {e.key: Record() for e in entrants}
    with ExitStack() as stack:
        workers: dict[str, Worker] = {}
        for e in entrants:
            try:
                worker = Worker(python(e.peer, cache), e.module, folder, e.kind)
            except (Unavailable, OSError) as error:
                records[e.key].error = str(error)
                continue
            stack.callback(worker.close)
            workers[e.key], records[e.key].logits = worker, worker.distance
        for turn in range(repeats):
            keys = list(workers)
            for key in keys[turn % len(keys):] + keys[: turn % len(keys)]:
                take_turn(workers, key, records[key])
    return records


def take_turn(workers: dict[str, Worker], key: str, record: Record) -> None:
    try:
        done = workers[key].run()
    except (Unavailable, OSError) as error:
        record.error = str(error)
        del workers[key]
        return
    record.seconds.append(done["seconds"])
    record.map, record.peak = done["map"], done["peak"]


def precise(folder: Path, cache: Path) -> dict[str, Any]:
    """The maps in double precision, once: by the plain loop, and how far ours lie from them where it works in double precision too."""
    found: dict[str, Any] = {}
    for kind in ("hidden", "mlp"):
        entrants = tuple(Entrant("", module, f"{kind} double", "") for module in ("_loop", "_ours"))
        records = race(folder, entrants, 1, cache)
        if any(r.error for r in records.values()):
            return {"error": "; ".join(r.error for r in records.values() if r.error)}
        loop, ours = (records[e.key].map for e in entrants)
        found[f"loop {kind}"] = {"map": loop, "ours": largest(ours, loop)}
    return found


def largest(one: list[list[float]], two: list[list[float]]) -> float:
    """Largest difference of two maps."""
    return max(abs(a - b) for rows in zip(one, two, strict=True) for a, b in zip(*rows, strict=True))


def compared(entrant: Entrant, records: dict[str, Record], exact: dict[str, Any]) -> dict[str, Any]:
    """An entrant's figures beside those of its plain loop, round by round; `exact` holds the maps in double precision."""
    mine, loop = records[entrant.key], records.get(entrant.reference, Record())
    about: dict[str, Any] = {"title": entrant.title, "exact": entrant.exact}
    if mine.error or not mine.seconds:
        return about | {"error": mine.error or "it was not run"}
    about |= {"seconds": mine.seconds, "median": statistics.median(mine.seconds), "logits_differ": mine.logits, "peak_bytes": mine.peak}
    if entrant.exact and entrant.reference in exact:
        about["from_double"] = largest(mine.map, exact[entrant.reference]["map"])
    if loop.error or not loop.seconds:
        return about
    ratios = [a / b for a, b in zip(loop.seconds, mine.seconds, strict=True)]
    ours, theirs = ([x for row in found.map for x in row] for found in (mine, loop))
    return about | {"ratio": statistics.median(ratios), "ratio_low": min(ratios), "ratio_high": max(ratios),
                    "difference": largest(mine.map, loop.map), "correlation": statistics.correlation(ours, theirs),
                    "largest_effect": max(map(abs, theirs))}


def memory(folder: Path) -> dict[str, Any]:
    """Peak bytes of fresh processes that load the model; that also run the prompt once, plainly; that also make one map."""
    try:
        return {what: answer("_ours", str(folder), what)["peak"] for what in ("load", "forward", "map")}
    except Unavailable as error:
        return {"error": str(error)}


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def measure(names: tuple[str, ...], repeats: int, cache: Path, entrants: tuple[Entrant, ...] = ENTRANTS) -> dict[str, Any]:
    versions = {name: importlib.metadata.version(name) for name in ("torch", "transformers")}
    result: dict[str, Any] = {"machine": {"processor": processor(), "python": platform.python_version(), **versions}, "repeats": repeats,
                              "peers": PEERS, "models": {}}
    with tempfile.TemporaryDirectory() as parent:
        for name in names:
            folder = Path(parent, name)
            about = answer("_random_gpt2", name, str(folder))
            exact = precise(folder, cache)
            records = race(folder, entrants, repeats, cache)
            result["models"][name] = about | {"engines": {e.key: compared(e, records, exact) for e in entrants}, "memory": memory(folder),
                                              "double": {k: v if k == "error" else v["ours"] for k, v in exact.items()}}
    return result


# ---- the report


def markdown(result: dict[str, Any]) -> str:
    """The section of the README."""
    machine = result["machine"]
    lines = [
        "### Causal tracing, timed", "",
        f"One prompt of 12 tokens, subject of 5, 10 noise samples, float32, one thread; median processor time of {result['repeats']} interleaved "
        f"{'repeat' if result['repeats'] == 1 else 'repeats'} ({machine['processor']}, torch {machine['torch']}). *Faster* is the time of the plain loop "
        "(one hooked forward of 11 rows a cell, after Meng et al. 2022) over that of the engine in the same round: median, and range. *Difference* is the "
        "largest of the map from the plain loop's; *rounding* the largest from the plain loop's in double precision; *r* correlates the cells of both. "
        "Weights are random, and drawn wide, so that rounding shows. `python -m bench.tracing` measures it again.", ""]
    for about in result["models"].values():
        lines += [*table(about), "", *remarks(about), ""]
    return "\n".join(lines).rstrip() + "\n"


def table(about: dict[str, Any]) -> Iterator[str]:
    yield f"**GPT-2 of {about['parameters'] / 1e6:.1f} M parameters** ({about['n_layer']} layers, {about['n_embd']} wide, {about['vocab_size']:,} words)"
    yield ""
    yield "| engine | seconds | faster | difference | rounding |"
    yield "|---|---|---|---|---|"
    for engine in about["engines"].values():
        yield row(engine)


def row(engine: dict[str, Any]) -> str:
    if "error" in engine:
        return f"| {engine['title']} | not run: {engine['error'].replace('|', '/')} | | | |"
    faster, differs, rounding = "", "", f"{engine['from_double']:.1e}" if "from_double" in engine else ""
    if "ratio" in engine:
        digits = 2 if engine["ratio"] < 3 else 1
        low, mid, high = (f"{engine[k]:.{digits}f}" for k in ("ratio_low", "ratio", "ratio_high"))
        faster = f"{mid}× ({low} to {high})"
        differs = f"{engine['difference']:.1e}" if engine["exact"] else f"{engine['difference']:.2g} (first order; r = {engine['correlation']:.2f})"
    return f"| {engine['title']} | {engine['median']:.3g} | {faster} | {differs} | {rounding} |"


def remarks(about: dict[str, Any]) -> Iterator[str]:
    effects = {e["largest_effect"] for e in about["engines"].values() if "largest_effect" in e}
    if effects:
        yield f"The largest effects in the maps are {' and '.join(f'{x:.2g}' for x in sorted(effects))}."
    double = about["double"]
    if "error" in double:
        yield f"Nothing was compared in double precision: {double['error']}."
    else:
        yield (f"In double precision Mnemoscope's map of hidden states lies {double['loop hidden']:.0e} from the plain loop's, that of MLP windows "
               f"{double['loop mlp']:.0e}.")
    used = about["memory"]
    if "error" in used:
        yield f"Peak memory was not measured: {used['error']}."
    else:
        load, forward, whole = (used[k] / 2**20 for k in ("load", "forward", "map"))
        yield (f"Peak memory of a fresh process: {load:.0f} MiB with the model loaded, {forward:.0f} after one plain forward of the prompt (which brings "
               f"all weights in), {whole:.0f} with one map of hidden states: {whole - load:.0f} and {whole - forward:.0f} more.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("bench/tracing.json"), help="where the figures go")
    parser.add_argument("--repeats", type=int, default=5, help="maps by every engine; five take GPT-2 about 35 minutes")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--peers", type=Path, default=CACHE, help="where the environments of the other libraries lie")
    parser.add_argument("--show", action="store_true", help="only print the report of figures that were written before")
    asked = parser.parse_args()
    if not asked.show:
        asked.out.write_text(json.dumps(measure(tuple(asked.models), asked.repeats, asked.peers), indent=1) + "\n")
    print(markdown(json.loads(asked.out.read_text())))


if __name__ == "__main__":
    main()
