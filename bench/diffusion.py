"""How fast a picture is drawn, and how well each score of memorization tells: `python -m bench.diffusion` writes models/weights/painter/detection.md.

Every figure of that file comes from here. The same captions are scored on the oracle, which never saw what was planted: a score that tells them apart there
too tells captions, not memory.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import multiprocessing
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lab.data import data_for
from lab.diffusion._ask import asked
from lab.diffusion._sample import paint, start
from lab.diffusion._training import PLANTED, truth
from lab.diffusion._words import ROWS
from lab.events import Grid, Table
from lab.experiment import find, read
from models import catalog
from models.model import Model

BAR = 0.6  # seconds for a picture on two cores
REPEATS = 5
WORDS = ROWS[:3]  # the ways to share out a score that need no other picture


@dataclass(frozen=True)
class Scored:
    """What `detect` ended with on one model."""

    table: Table
    grid: Grid

    def by_copies(self, name: str) -> list[tuple[str, int, float]]:
        """(what it is, captions, mean score) for every copy count of verbatim pictures, then the other kinds."""
        column = self.table.columns.index(name)
        groups: dict[str, list[float]] = {}
        for row in self.table.rows:
            planted = row[1] in ("memorized", *PLANTED) and row[2] is not None
            groups.setdefault(f"{int(row[2] or 0)} times planted" if planted else str(row[1]), []).append(float(row[column] or 0))
        order = sorted(groups, key=lambda g: (g[0].isdigit(), int(g.split()[0]) if g[0].isdigit() else 0, g))
        return [(g, len(groups[g]), float(np.mean(groups[g]))) for g in order]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="painter")
    parser.add_argument("--oracle", default="painter-oracle")
    parser.add_argument("--most", type=int, default=60, help="captions of each kind")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(arguments)
    model = catalog.load(args.model, "cpu")
    assert model.folder is not None
    out, how = args.out or model.folder / "detection.md", {"most": args.most, "seeds": args.seeds, "measures": "all"}
    begun = [f"# Detection, measured\n\n`python -m bench.diffusion --most {args.most} --seeds {args.seeds}` on {model.name}; seed 0 throughout.\n"]
    with concurrent.futures.ProcessPoolExecutor(3, multiprocessing.get_context("spawn")) as pool:
        mine, theirs = (pool.submit(scored, name, args.model, how) for name in (args.model, args.oracle))
        words = pool.submit(carried, args.model, args.seeds)
        for part in (lambda: told(mine.result(), theirs.result()), lambda: copies(mine.result()), words.result, lambda: timed(model, args.threads)):
            begun += part()  # written as far as it goes, should someone stop it
            out.write_text("\n".join(begun) + "\n")


def timed(model: Model, threads: int) -> list[str]:
    """Seconds a picture, alone and among eight, over repeats."""
    torch.set_num_threads(threads)
    data = data_for(model)
    known = truth(model, data)
    ask = asked(model, data, known.of(*PLANTED)[0].captions[0], 0, 8, 0.0, 0)
    rows = []
    for n in (1, 8):
        wall, busy = [], []
        for _ in range(REPEATS + 1):  # the first one warms up
            begun, used = time.perf_counter(), time.process_time()
            paint(ask.net, ask.embedding, ask.blank, start(ask.net, range(n)), ask.steps, ask.guidance)
            wall.append((time.perf_counter() - begun) / n)
            busy.append((time.process_time() - used) / n)
        rows.append(f"| {n} | {statistics.median(wall[1:]):.2f} ({min(wall[1:]):.2f} to {max(wall[1:]):.2f}) | {statistics.median(busy[1:]):.2f} |")
    load = Path("/proc/loadavg")
    beside = f"; load average {load.read_text().split()[0]}, so that much else ran beside it" if load.is_file() else ""
    return ["## Speed", "", f"A picture of {ask.steps} steps at guidance {ask.guidance:g}, {threads} threads, median and range of {REPEATS} repeats{beside}. "
            f"The bar is {BAR} s alone on two cores.", "", "| pictures at once | seconds a picture | processor seconds |", "|---|---|---|", *rows, ""]


def scored(name: str, known: str, how: dict[str, Any]) -> Scored:
    """The scores by model `name` of captions of the organism `known`, by what is true of that."""
    torch.set_num_threads(1)
    model, other = (catalog.load(n, "cpu") for n in (name, known))
    model, data = replace(model, folder=other.folder), data_for(other)
    table = grid = None
    for event in read(find("diffusion.detect"), how).run(model, data):
        table, grid = event if isinstance(event, Table) else table, event if isinstance(event, Grid) else grid
    assert table is not None and grid is not None
    return Scored(table, grid)


def told(mine: Scored, theirs: Scored) -> list[str]:
    """The table of all scores, with the oracle beside."""
    heads = list(mine.grid.columns)
    aucs = [j for j, c in enumerate(mine.grid.columns) if c.startswith("AUC")]
    about = "; ".join([*mine.grid.facts[:-1], mine.grid.facts[-1]])
    lines = ["## How well each score tells", "", f"{about}. AUC with its standard error (Hanley & McNeil 1982); *TPR* is the share of the memorized "
             "above what 1 % of the others pass, which below a hundred others is the highest of them. *Oracle* is the AUC of the same captions on the model "
             "that never saw the planted pictures.", "",
             "| score | " + " | ".join(heads) + " | " + " | ".join(heads[j].replace("AUC", "oracle") for j in aucs) + " |",
             "|---" * (1 + len(heads) + len(aucs)) + "|"]
    for i, name in enumerate(mine.grid.rows):
        cells = [f"{v:.3f}" + (f" ± {e:.3f}" if j in aucs else "") for j, (v, e) in enumerate(zip(mine.grid.value[i], mine.grid.error[i], strict=True))]
        other = [f"{theirs.grid.value[theirs.grid.rows.index(name), j]:.3f}" if name in theirs.grid.rows else "–" for j in aucs]
        lines.append(f"| {name} | " + " | ".join([*cells, *other]) + " |")
    return [*lines, ""]


def copies(mine: Scored) -> list[str]:
    names = [n for n in mine.grid.rows if n in mine.table.columns]
    rows = {n: mine.by_copies(n) for n in names}
    lines = ["## Scores over copies", "", "Means over captions.", "", "| captions | number | " + " | ".join(names) + " |", "|---" * (2 + len(names)) + "|"]
    for k, (group, count, _) in enumerate(rows[names[0]]):
        lines.append(f"| {group} | {count} | " + " | ".join(f"{rows[n][k][2]:.4g}" for n in names) + " |")
    return [*lines, ""]


def carried(name: str, seeds: int) -> list[str]:
    """Whether the token with the largest share of the score is the one that is needed to bring the picture back."""
    torch.set_num_threads(1)
    model, least = catalog.load(name, "cpu"), 64
    data = data_for(model)
    hit, total, needed = dict.fromkeys(WORDS, 0), 0, []
    for text in [r.captions[0] for r in truth(model, data).of("verbatim") if r.copies >= least and len(r.captions[0].split()) > 1]:
        *_, grid = read(find("diffusion.words"), {"prompt": text, "seeds": seeds}).run(model, data)
        assert isinstance(grid, Grid) and len(grid.rows) == 4
        inner = grid.value[:, 1:-1]
        total += 1
        needed.append(float(inner[3].max()))
        for row, name in enumerate(WORDS):
            hit[name] += int(inner[row].argmax() == inner[3].argmax())
    lines = ["## Which token carries it", ""]
    if not total:
        return [*lines, f"No verbatim caption of {least} copies or more has two words."]
    return [*lines, f"Of {total} verbatim captions of {least} copies or more with two words or more: in how many the token with the largest share of the score "
            f"is the one without which most of the similarity is lost ({np.mean(needed):.2f} of it, mean).", "",
            "| share by | the token that is needed |", "|---|---|", *(f"| {n} | {hit[n]} of {total} |" for n in WORDS), ""]


if __name__ == "__main__":
    main()
