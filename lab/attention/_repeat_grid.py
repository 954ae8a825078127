"""The bundled grid: every cell that was run before, drawn over repetition and judged. `python -m bench.repetition` makes it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lab.attention import _repeat_corpus as corpus_of
from lab.attention import _repeat_train as training
from lab.attention._repeat_corpus import Corpus, entropy, table_loss
from lab.attention._repeat_heads import heads
from lab.attention._repeat_train import Point, Trainer, train
from lab.data import ASSETS
from lab.events import Curves

GRID = ASSETS / "repetition" / "grid.json"
STEPS, EVERY = 1200, 40  # of training; between two measurements
POOLS, FEW_POOLS = (2, 16, 128, 1024, 8192), (16, 128, 1024)
SHARES = {0.5: POOLS, 0.1: FEW_POOLS}  # share -> pools that are run with it
SEEDS = 3
DIRECTION = "lower is better read; the pool's loss low and the held-out loss high: learned by heart at the cost of the rest"


@dataclass(frozen=True)
class Cell:
    """One run of the grid. `pool` is 0 where all documents are unique, and in the control, where repeated places stay empty."""

    share: float
    pool: int
    control: bool
    seed: int

    @property
    def key(self) -> str:
        return f"share {self.share:g}, {self.arm}, seed {self.seed}"

    @property
    def arm(self) -> str:
        return "unique only" if self.control else f"pool {self.pool}" if self.pool else "all unique"


def cells() -> list[Cell]:
    """All of them, in the order in which they are worth most: the larger share first, and there the control and the pools around the middle, over all seeds.
    A run with all documents unique has no share, and stands once."""
    found = []
    for share, pools in SHARES.items():
        middle = [p for p in pools if p in FEW_POOLS]
        outer = [p for p in pools if p not in FEW_POOLS]
        found += [cell for seed in range(SEEDS) for cell in (Cell(share, 0, True, seed), *(Cell(share, p, False, seed) for p in middle))]
        found += [cell for seed in range(SEEDS) for cell in (Cell(share, p, False, seed) for p in outer)]
        found += [Cell(share, 0, False, seed) for seed in range(SEEDS) if share == max(SHARES)]
    return found


def recipe() -> dict[str, Any]:
    """What decides the figures beside a cell: a grid of another recipe is no grid of this one."""
    names = {corpus_of: ("SYMBOLS", "SUCCESSORS", "TOKENS", "CHAINS", "COPIES", "PERIODS", "HELD", "HELD_COPIES"),
             training: ("LAYERS", "HEADS", "WIDTH", "LR_MATRIX", "LR_REST", "RISE", "POOLED")}
    found = {name.lower(): getattr(module, name) for module, mine in names.items() for name in mine}
    return json.loads(json.dumps(found | {"steps": STEPS, "every": EVERY}))


def run(cell: Cell, steps: int = STEPS, every: int = EVERY) -> Iterator[dict[str, Any] | None]:
    """Yields None as it goes, and last what is kept of the cell."""
    corpus = Corpus(cell.seed, steps, cell.share, cell.pool, cell.control)
    trainer, points = Trainer(corpus), list[Point]()
    for point in train(trainer, every):
        if point is None:
            yield None
        else:
            points.append(point)
    found, last = heads(trainer.net, *corpus.held_copies), points[-1]
    best = np.unravel_index(found.matching.argmax(), found.matching.shape)
    yield asdict(cell) | {
        "reads": corpus.reads, "held": last.held.mean, "held error": last.held.error, "pool loss": none(last.pool.mean), "copy": last.copy.mean,
        "copy error": last.copy.error, "floor": table_loss(corpus.table, corpus.held), "rise": largest_rise([p.held.mean for p in points]),
        "matching": float(found.matching[best]), "copying": float(found.copying[best]), "head": f"{best[0]}.{best[1]}", "chance": found.chance}


def none(value: float) -> float | None:
    return None if np.isnan(value) else value


def largest_rise(values: Sequence[float]) -> float:
    """The most that a value lies above the least before it; 0 where they only fall."""
    return float((np.array(values) - np.minimum.accumulate(values)).max())


def load(path: Path = GRID) -> dict[str, Any]:
    """What is finished, cell by cell under its key; nothing where there is no grid of this recipe."""
    kept = json.loads(path.read_text()) if path.is_file() else {}
    return kept["cells"] if kept.get("recipe") == recipe() else {}


def arms(found: Mapping[str, Any], share: float) -> dict[str, dict[int, Any]]:
    """The cells of a share by arm and seed: all unique, pools from large to small (from few repetitions to many), and the control."""
    order = ["all unique", *(f"pool {p}" for p in sorted(SHARES[share], reverse=True)), "unique only"]
    groups: dict[str, dict[int, Any]] = {name: {} for name in order}
    for cell in found.values():
        arm = Cell(cell["share"], cell["pool"], cell["control"], cell["seed"]).arm
        if arm == "all unique" or cell["share"] == share:
            groups[arm][cell["seed"]] = cell
    return {name: group for name, group in groups.items() if group}


def values(group: Mapping[int, Any], name: str) -> np.ndarray:
    """By seed; NaN where there is none."""
    return np.array([np.nan if c[name] is None else c[name] for _, c in sorted(group.items())], float)


def deviation(found: np.ndarray) -> float:
    """Standard deviation over seeds; NaN of fewer than two."""
    return float(found.std(ddof=1)) if len(found) > 1 else float("nan")


def drawn(found: Mapping[str, Any], share: float, facts: tuple[str, ...]) -> Curves:
    """Losses at the end of training over repetition, a point an arm; the control, which has none, is a line across."""
    groups = arms(found, share)
    control, repeated = groups.pop("unique only", {}), list(groups.values())
    x = np.log2([next(iter(g.values()))["reads"] for g in repeated])
    lines = {"held-out chains": ("held", repeated), "control, no repeats": ("held", [control] * len(x)),
             "the repeats themselves": ("pool loss", repeated), "copying": ("copy", repeated)}
    value = [[float(values(g, name).mean()) if g else np.nan for g in row] for name, row in lines.values()]
    error = [[deviation(values(g, name)) for g in row] for name, row in lines.values()]
    return Curves(
        f"What repetition costs: {share:.0%} of the chain documents are repeats", (*lines, "the true table"), x,
        "a repeated document was read 2^x times (0: every document once)", np.array([*value, [entropy()] * len(x)]), np.array([*error, [np.nan] * len(x)]),
        "nats a token after training; band: standard deviation over seeds", DIRECTION, facts)
