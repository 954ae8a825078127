"""All cells of one token in one upward sweep: a batch that grows by one trajectory wherever a cell begins to differ from the corrupted run.

A cell is a set of overrides at its token. Below its lowest override it is the corrupted run, which the base pass has; before the token it
is so too. Cells that share their overrides so far share a trajectory until they part. Source of the quantities: Meng et al. 2022, arXiv 2202.05262.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from lab.trace._fused import plainly
from lab.trace._replay import Replay, forward, log_probs, pieces
from lab.trace._score import Score
from lab.trace._sites import ATTENTION, BLOCK, MLP, NEURON, Put, Spared


@dataclass(frozen=True, order=True)
class Override:
    """At `layer`, `site` gets back what the clean run had there (or, where not `clean`, keeps what the corrupted run had)."""

    layer: int
    site: str
    begin: int = 0  # of the width
    end: int | None = None
    clean: bool = True


Cell = tuple[Override, ...]  # sorted by layer


def cell(kind: str, layer: int, window: tuple[int, int], layers: int) -> Cell:
    """What the map restores at `layer`: a hidden state (severed: with MLPs or attention above held as corrupted), or the modules of a window."""
    if kind in (MLP, ATTENTION):
        return tuple(Override(one, kind) for one in range(*window))
    held = kind.removeprefix("severed ")
    above = tuple(Override(one, held, clean=False) for one in range(layer + 1, layers)) if held != kind else ()
    return (Override(layer, BLOCK), *above)


@dataclass
class Trajectory:
    """`cells` that have had the same overrides so far."""

    now: Cell  # the overrides at the layer that runs
    cells: list[int]
    parent: int = 0


def sweep(replay: Replay, score: Score, cells: Sequence[Cell], token: int, runs: int) -> Generator[None, None, Tensor]:
    """Scores (cells, runs) with each cell's overrides at `token`. Yields between batches."""
    first, active, hidden = token if replay.suffix else 0, list[Trajectory](), torch.zeros(0)
    for layer in range(replay.layers):
        last = layer == replay.layers - 1
        active = [part for i, trajectory in enumerate(active) for part in split(trajectory, cells, layer, i)]
        if active:
            if (parents := [t.parent for t in active]) != list(range(len(hidden) // runs)):
                hidden = hidden.unflatten(0, (-1, runs)).index_select(0, torch.tensor(parents, device=hidden.device)).flatten(0, 1)
            hidden = yield from (_last if last and replay.suffix and hidden.shape[1] > replay.steps else _block)(
                replay, hidden, active, layer, token, first, runs)
        new = [i for i, one in enumerate(cells) if one[0].layer == layer]
        if new:
            entering = split(Trajectory((), new), cells, layer, 0)
            states = yield from _enter(replay, entering, layer, token, first, runs)
            hidden = torch.cat([hidden, states[:, -hidden.shape[1]:]]) if active else states
            active += entering
    scores = yield from tail(replay, score, hidden[:, -replay.steps:])
    found = scores.new_empty(len(cells), runs)
    for trajectory, values in zip(active, scores.unflatten(0, (-1, runs)), strict=True):
        found[trajectory.cells] = values
    return found


def split(trajectory: Trajectory, cells: Sequence[Cell], layer: int, parent: int) -> list[Trajectory]:
    """The trajectory's cells, apart where they have different overrides at `layer`."""
    if len(trajectory.cells) == 1:
        return [Trajectory(tuple(o for o in cells[trajectory.cells[0]] if o.layer == layer), trajectory.cells, parent)]

    def here(i: int) -> Cell:
        return tuple(o for o in cells[i] if o.layer == layer)
    return [Trajectory(now, list(found), parent) for now, found in groupby(sorted(trajectory.cells, key=here), here)]


def _block(replay: Replay, hidden: Tensor, active: list[Trajectory], layer: int, token: int, first: int, runs: int) -> Generator[None, None, Tensor]:
    """One block on all rows, with the overrides of each trajectory."""
    out = []
    for part, which in batches(len(hidden), runs, replay.rows_at_once(layer, hidden.shape[1])):
        override(replay, active, layer, token, token - first, runs, part, hidden.shape[1])
        out.append(replay.block(layer, hidden[part], which, first))
        replay.taps.puts, replay.taps.spared = {}, {}
        yield
    return joined(out)


def joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def override(replay: Replay, active: list[Trajectory], layer: int, token: int, position: int, runs: int, part: slice, positions: int) -> None:
    """Readies the taps for the overrides of the trajectories whose rows fall into `part` of the batch."""
    lean = layer in replay.taps.lean and all(o.site not in (MLP, NEURON) for t in active if not spared(t) for o in t.now)
    known, there = list[Tensor](), torch.zeros(part.stop - part.start, positions, dtype=torch.bool, device=replay.ids.device)
    for i, trajectory in enumerate(active):
        begin, end = max(i * runs, part.start), min((i + 1) * runs, part.stop)
        for o in trajectory.now if begin < end else ():
            rows, mine = slice(begin - part.start, end - part.start), value(replay, o, token, runs)[begin - i * runs : end - i * runs]
            if lean and spared(trajectory):
                there[rows, position] = True
                known.append(mine)
            else:
                replay.taps.puts.setdefault((o.site, layer), []).append(Put(rows, position, mine, slice(o.begin, o.end)))
    if known:
        replay.taps.spared = {layer: Spared.of(there, torch.cat(known))}


def spared(trajectory: Trajectory) -> bool:
    """Whether an MLP need not be run at the token, because all it gives there is overridden."""
    return [o.site for o in trajectory.now] == [MLP]


def _last(replay: Replay, hidden: Tensor, active: list[Trajectory], layer: int, token: int, first: int, runs: int) -> Generator[None, None, Tensor]:
    """The last block: its output matters at the scored positions alone, so of the others no more is run than their keys and values."""
    out, rest = [], hidden.shape[1] - replay.steps
    for part, which in batches(len(hidden), runs, replay.rows_at_once(layer, hidden.shape[1])):
        before = replay.keys_and_values(layer, hidden[part, :rest], which, first)
        out.append(replay.block(layer, hidden[part, rest:], which, first + rest, before))
        yield
    return joined(out)


def _enter(replay: Replay, entering: list[Trajectory], layer: int, token: int, first: int, runs: int) -> Generator[None, None, Tensor]:
    """The states (trajectories times runs, tokens from `first` on, width) after the layer at which trajectories begin."""
    base = replay.kept(BLOCK, layer)[1:, first:]
    hidden = torch.cat([base] * len(entering))
    if entering[0].now[0].site == BLOCK:  # all of one map begin alike, and a restored output needs no run
        hidden[:, token - first] = torch.cat([value(replay, t.now[0], token, runs) for t in entering])
        return hidden
    before = (replay.kept(BLOCK, layer - 1) if layer else replay.entry)[1:, first:]
    at = slice(token - first, token - first + 1) if replay.suffix else slice(None)  # within the block no other token reads the one that changes
    inputs = torch.cat([before[:, at]] * len(entering))
    hidden[:, at] = yield from _block(replay, inputs, entering, layer, token, first, runs)
    return hidden


def value(replay: Replay, o: Override, token: int, runs: int) -> Tensor:
    """(runs, width of the part): what the override puts in place."""
    kept = replay.kept(o.site, o.layer)[:, token, o.begin : o.end]
    return kept[:1].expand(runs, -1) if o.clean else kept[1:]


def tail(replay: Replay, score: Score, hidden: Tensor) -> Generator[None, None, Tensor]:
    """Scores (rows) of the last block's output at the scored positions."""
    found = []
    for part in pieces(len(hidden), max(1, int(replay.device_work / max(1, replay.end.size * hidden.shape[1])))):
        found.append(score(replay.tail(hidden[part])))
        yield
    return joined(found)


@torch.no_grad()
def plain(replay: Replay, score: Score, one: Cell, token: int, which: Tensor) -> Tensor:
    """The scores (runs) of one cell by whole forwards with hooks: the definition, and the way for models that fit no other."""
    replay.taps.puts = {}
    for o in one:
        replay.taps.puts.setdefault((o.site, o.layer), []).append(
            Put(slice(None), token, value(replay, o, token, len(replay.kept(o.site, o.layer)) - 1)[which], slice(o.begin, o.end)))
    replay.corrupter.rows = which
    try:
        with plainly():
            return score(log_probs(forward(replay.net, replay.corrupter.ids(replay.ids), replay.steps, replay.mask, use_cache=False)))
    finally:
        replay.taps.puts, replay.corrupter.rows = {}, which[:0]


def plain_sweep(replay: Replay, score: Score, cells: Sequence[Cell], token: int, runs: int) -> Generator[None, None, Tensor]:
    """As `sweep`, one cell after the other, one whole forward for some of its runs at a time."""
    found = torch.empty(len(cells), runs, device=replay.ids.device)
    size = max(1, int(replay.device_work / (sum(replay.sizes) * replay.tokens)))
    for i, one in enumerate(cells):
        for part in pieces(runs, size):
            with replay.routes.counting(part, 0):
                found[i, part] = plain(replay, score, one, token, torch.arange(part.start, part.stop, device=found.device))
            replay.flops += replay.loop_flops(1, part.stop - part.start - 1)
            yield
    return found


def batches(rows: int, runs: int, size: int) -> Iterator[tuple[slice, slice]]:
    """Parts of a batch of trajectories, and the corrupted runs that their rows belong to: whole trajectories, or, where one is too much, parts of one."""
    if size >= runs:
        yield from ((part, slice(0, runs)) for part in pieces(rows, size // runs * runs))
        return
    for start in range(0, rows, runs):
        yield from ((slice(start + part.start, start + part.stop), part) for part in pieces(runs, size))
