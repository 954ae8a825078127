"""Memories beside a model, over three seeds: `python -m bench.retrieval` writes bench/retrieval.md.

The experiment recall.retrieval with its defaults, a seed a time: other documents, another store and other networks each time. What the papers claim of
Memory Decoder and MLP Memory is held against kNN-LM of the same seed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from math import log
from pathlib import Path

import torch

from lab.data import data_for
from lab.events import Table
from lab.experiment import find, read
from models import catalog

PAGE = Path(__file__).with_suffix(".md")
ALONE, NEAR, OTHERS = "the model alone", "kNN-LM", "kNN-LM, a store about others"
LEARNT = ("Memory Decoder", "MLP Memory")
Rows = dict[str, list[float]]  # memory -> perplexity of the new domain, of general text, bytes, multiplications


def measured(name: str, seed: int) -> Rows:
    model = catalog.load(name)
    *_, last = read(find("recall.retrieval"), {"seed": str(seed)}).run(model, data_for(model))
    assert isinstance(last, Table)
    return {str(row[0]): [float(v or 0) for v in row[1:]] for row in last.rows}


def way(rows: Rows, memory: str) -> float:
    """Share of the way that kNN-LM goes from the model alone, in nats a token."""
    alone, near, mine = (log(rows[n][0]) for n in (ALONE, NEAR, memory))
    return (alone - mine) / (alone - near)


def spread(values: Sequence[float], digits: int = 2) -> str:
    return f"{statistics.mean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"


def page(found: list[Rows], seconds: float) -> str:
    lines = ["# Memories beside scribe", "<!-- written by `python -m bench.retrieval`; change that, not this -->", "",
             f"Perplexity, mean ± standard deviation over {len(found)} seeds: other documents about the authors of the store, and general text. Bytes are kept "
             f"beside the model; multiplications a token come on top of its own. {seconds:.0f} CPU-seconds in all, one thread.", "",
             "| memory | new domain | general text | bytes | multiplications |", "|---|---|---|---|---|"]
    for memory in found[0]:
        new, general, kept, work = zip(*(rows[memory] for rows in found), strict=True)
        lines.append(f"| {memory} | {spread(new)} | {spread(general)} | {statistics.mean(kept):,.0f} | {statistics.mean(work):,.0f} |")
    lines += ["", "## What the papers claim", ""]
    for memory in LEARNT:
        shares, controls = [way(rows, memory) for rows in found], [way(rows, f"{memory}, text alone") for rows in found]
        cost, size = (statistics.mean([rows[memory][i] / rows[NEAR][i] for rows in found]) for i in (3, 2))
        gain = [a - b for a, b in zip(shares, controls, strict=True)]
        lines.append(f"- {memory} goes {spread([100 * s for s in shares], 0)} % of kNN-LM's way in nats a token, for {cost:.2f} of its multiplications (an "
                     f"exact search of this small store) and {size:.2f} of its bytes. Trained on the text alone, without the retriever to imitate, "
                     f"{spread([100 * s for s in controls], 0)} %; imitation adds {spread([100 * g for g in gain], 1)} points.")
    lines.append(f"- A store about other authors brings kNN-LM {spread([100 * way(rows, OTHERS) for rows in found], 0)} % of that way: the rest is what the "
                 "documents say, not their form.")
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description="Memories beside a model, over several seeds")
    parser.add_argument("--model", default="scribe")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=PAGE)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    started = time.process_time()
    found = [measured(asked.model, seed) for seed in asked.seeds]
    asked.out.write_text(page(found, time.process_time() - started))


if __name__ == "__main__":
    main()
