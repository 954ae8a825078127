"""Learning from repeated data, cell by cell: `python -m bench.repetition` writes assets/repetition/grid.json and its page.

Every cell grows a net of its own (lab/attention/repetition.py) with one share of repeats, one pool and one seed. What is finished stands in grid.json, so a
run that was interrupted goes on where it stopped; `--most N` runs no more than N cells, `--page` only writes the page.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from lab.attention._repeat_corpus import entropy
from lab.attention._repeat_grid import GRID, SEEDS, SHARES, STEPS, Cell, arms, cells, deviation, load, recipe, run, values
from lab.attention._repeat_verdict import verdict

HEAD = ("chain documents", "reads of each", "held-out loss", "over the control", "loss on the repeats", "copy loss", "induction score", "copying score",
        "seeds")


def once(cell: Cell) -> dict[str, Any]:
    """One cell, in a process of its own."""
    import torch

    torch.set_num_threads(1)
    started = time.process_time()
    found = [kept for kept in run(cell) if kept is not None][-1]
    return found | {"cpu seconds": round(time.process_time() - started, 1)}


def work(todo: Sequence[Cell], done: dict[str, Any], workers: int, keep: Callable[[dict[str, Any]], None]) -> None:
    """Runs the cells that are not in `done`, and calls `keep` after every one. Only this process writes."""
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting = {pool.submit(once, cell): cell for cell in todo if cell.key not in done}
        for ready in as_completed(waiting):
            cell = waiting[ready]
            done[cell.key] = mine = ready.result()
            keep(done)
            say(f"{cell.key}: held-out {mine['held']:.3f}, copying {mine['copy']:.4f}, {mine['cpu seconds']} s")


def save(done: dict[str, Any], path: Path = GRID) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = ",\n".join(f"  {json.dumps(key)}: {json.dumps(short(done[key]), allow_nan=False)}" for key in sorted(done))
    draft = path.with_suffix(".draft")
    draft.write_text(f'{{\n "recipe": {json.dumps(recipe())},\n "cells": {{\n{rows}\n }}\n}}\n')
    draft.replace(path)


def keep(done: dict[str, Any]) -> None:
    """The figures and their page, so that who interrupts it finds both as they stand."""
    save(done)
    GRID.with_name("README.md").write_text(page(done))


def short(cell: dict[str, Any]) -> dict[str, Any]:
    return {k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in cell.items()}


def say(words: str) -> None:
    sys.stderr.write(f"{words}\n")
    sys.stderr.flush()


def page(done: dict[str, Any]) -> str:
    """The table of every share, and what it says."""
    missing = [cell.key for cell in cells() if cell.key not in done]
    lines = ["# Learning from repeated data", "<!-- written by `python -m bench.repetition`; change that, not this -->", "",
             f"A GPT of two layers reads {STEPS} steps of 16 chain and 16 copy documents. Of the chain documents a share comes from a pool that is read over "
             "and over. Losses are nats a token on documents that nobody trained on, after training, mean ± standard deviation over seeds; lower is better. "
             f"The true table has {entropy():.3f} on chains without end. *Unique only* is the control: the same unique and copy documents, and no repeats in "
             "their places. *Over the control* is the difference seed by seed. The induction score is the share of attention that the best head gives to what "
             "followed earlier occurrences of the token it reads (0 to 1), the copying score how far the same head says what it looks at (-1 to 1).", ""]
    for share in SHARES:
        groups = arms(done, share)
        rows = [HEAD, ("---",) * len(HEAD), *(row(arm, group, groups.get("unique only", {})) for arm, group in groups.items())]
        lines += [f"## {share:.0%} of the chain documents are repeats", "", *("| " + " | ".join(r) + " |" for r in rows), ""]
        lines += [*(f"- {words}." for words in verdict(done, share)), ""]
    if missing:
        lines += [f"{len(missing)} of {len(cells())} cells have not been run yet: {'; '.join(missing)}.", ""]
    return "\n".join(lines)


def row(arm: str, group: dict[int, Any], control: dict[int, Any]) -> tuple[str, ...]:
    import numpy as np

    both = sorted(set(group) & set(control))
    over = np.array([group[s]["held"] - control[s]["held"] for s in both])
    repeats = group[min(group)]["reads"]
    reads = "-" if arm == "unique only" else f"{repeats:,.0f}" if repeats >= 10 else f"{repeats:.1f}"
    return (arm, reads, spread(values(group, "held"), 3), "" if arm == "unique only" else spread(over, 3), spread(values(group, "pool loss"), 2),
            spread(values(group, "copy"), 4), spread(values(group, "matching"), 2), spread(values(group, "copying"), 2), f"{len(group)} of {SEEDS}")


def spread(found: Any, places: int) -> str:
    if not len(found) or any(v != v for v in found):
        return "-"
    error = deviation(found)
    return f"{found.mean():.{places}f}" + ("" if error != error else f" ± {error:.{places}f}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Learning from repeated data, cell by cell")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--most", type=int, default=10**6, help="cells to run before it ends")
    parser.add_argument("--page", action="store_true", help="only write the page from what is finished")
    asked = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # for the workers, before they import torch
    done = load()
    if not asked.page:
        work([c for c in cells() if c.key not in done][: asked.most], done, asked.workers, keep)
    keep(done)


if __name__ == "__main__":
    main()
