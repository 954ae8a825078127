"""Grown memories, one after the other, and the figures they make together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from lab.events import Curves, Event, Grid, Progress, Scatter, Table
from lab.recall._arch_measure import Answers, Effects, answers, binned, effects
from models.errors import BadInput
from models.memory import grown, tasks
from models.memory.designs import DESIGNS, design
from models.memory.net import Reader

if TYPE_CHECKING:
    from lab.recall.architectures import Architectures

LOADS = (1, 2, 4, 8, 16, 24, 32)
BINS = ((1, 8), (9, 16), (17, 32), (33, 64), (65, 96), (97, 127), (128, 255), (256, 511), (512, 1023))


@dataclass(frozen=True)
class Found:
    """What was measured of one memory: the answers by load, the effects of swaps at the chosen number of pairs, bytes of state at the end."""

    name: str
    answers: dict[int, Answers]
    effects: Effects | None
    bytes: int
    parameters: int


def chosen(names: str, seed: int) -> list[str]:
    """The memories asked for. Raises `BadInput` naming the first that there is not, or that was not grown with this seed."""
    there = [name for name in grown.names() if seed in grown.seeds(name)]
    asked = there if names.strip() == "all" else [n for part in names.split(",") if (n := part.strip())]
    if not asked:
        raise BadInput("no memory is named", cure=f"There are {', '.join(there)}", setting="memories")
    for name in asked:
        try:
            design(name)
        except BadInput as error:
            raise BadInput(error.fault, error.cause, f"There are {', '.join(there)}", setting="memories") from None
        if name not in there:
            raise BadInput(f"{name} was not grown with seed {seed}", f"it was with {grown.seeds(name) or 'none'}", "Choose another seed of the grown nets",
                           setting="grown")
    return list(dict.fromkeys(asked))


def architectures(settings: Architectures) -> Iterator[Event]:
    """Yields the figure again after every memory, and last with all."""
    names = chosen(settings.memories, settings.grown)
    loads = _loads(settings)
    found: list[Found] = []
    yield Progress(0, len(names), "writing the sequences")
    for name in names:
        one = None
        for one in measure(name, settings, loads):
            if one is None:
                yield Progress(len(found), len(names), f"{DESIGNS[name].title} reads")
        assert one is not None
        found.append(one)
        yield FIGURES[settings.show](settings, found)


def _loads(settings: Architectures) -> tuple[int, ...]:
    fits = (settings.length - 1) // 3
    if settings.pairs > fits:
        raise BadInput(f"{settings.pairs} pairs do not fit into {settings.length} tokens", "a pair and its question take three",
                       f"Take at most {fits} pairs, or a longer sequence", setting="pairs")
    over = settings.show in ("recall over load", "lag x load", "table")
    return tuple(n for n in LOADS if n <= fits) if over else (settings.pairs,)


def measure(name: str, settings: Architectures, loads: tuple[int, ...]) -> Iterator[Found | None]:
    """Yields None as it goes. Every memory reads the same sequences."""
    net, said, swaps = grown.load(name, settings.grown), dict[int, Answers](), None
    for load in loads:
        batch = tasks.associations(settings.sequences, settings.length, load, torch.Generator().manual_seed(settings.seed), power=1.0)
        for one in answers(net, batch):
            if one is not None:
                said[load] = one
            yield None
    if settings.show in ("fidelity over lag", "table"):
        generator = torch.Generator().manual_seed(settings.seed)
        batch = tasks.associations(max(64, settings.sequences), settings.length, settings.pairs, generator, power=1.0)
        for some in effects(net, batch, generator):
            swaps = some
            yield None
    yield Found(name, said, swaps, held(net, settings.length), sum(p.numel() for p in net.parameters()))


def held(net: Reader, length: int) -> int:
    """Bytes of the state after `length` tokens. What is carried has the same size whatever was read: it is counted on a short state where that is full."""
    token, state = torch.zeros(1, dtype=torch.long), net.start(1)
    sizes = []
    with torch.no_grad():
        for _ in range(min(length, 80)):
            state, _ = net.step(state, token)
            sizes.append(state.bytes)
    grows = sizes[-1] - sizes[-9] if len(sizes) > 8 else 0  # over 8 tokens: a segment of Titans' context comes and goes
    return sizes[-1] + round(grows / 8 * (length - len(sizes)))


def bins(settings: Architectures) -> tuple[tuple[int, int], ...]:
    return tuple(b for b in BINS if b[0] < settings.length - 2)


def facts(settings: Architectures, found: list[Found]) -> tuple[str, ...]:
    sizes = "; ".join(f"{DESIGNS[f.name].title} {f.bytes:,}" for f in found)
    past = " All were grown on 128 tokens: longer lags were never practised." if settings.length > 128 else ""
    return (f"{settings.sequences} sequences of {settings.length} tokens a measurement, nets of seed {settings.grown}.{past}",
            f"bytes of state at the end: {sizes}", f"guessing a value: {tasks.CHANCE:.3f}")


def over_lag(settings: Architectures, found: list[Found]) -> Curves:
    edges = bins(settings)
    rows = [binned(f.answers[settings.pairs].right, f.answers[settings.pairs].lag, edges) for f in found]
    return _curves(settings, found, edges, rows, f"Recall over lag, {settings.pairs} pairs", "share of questions answered right", (tasks.CHANCE,))


def fidelity(settings: Architectures, found: list[Found]) -> Curves:
    edges = bins(settings)
    rows = [binned(f.effects.divergence, f.effects.lag, edges) for f in found if f.effects is not None]
    return _curves(settings, found, edges, rows, f"Cued interventional fidelity over lag, {settings.pairs} pairs", "Jensen-Shannon divergence, bits", ())


def _curves(settings: Architectures, found: list[Found], edges: tuple[tuple[int, int], ...], rows: list[tuple[np.ndarray, np.ndarray]], title: str, unit: str,
            level: tuple[float, ...]) -> Curves:
    none = np.full(len(edges), np.nan)
    lines = [*(DESIGNS[f.name].title for f in found), *("chance" for _ in level)]
    value = np.stack([*(mean for mean, _ in rows), *(np.full(len(edges), x) for x in level)])
    error = np.stack([*(e for _, e in rows), *(none for _ in level)])
    middle = np.array([(low + min(high, settings.length - 1)) / 2 for low, high in edges])
    return Curves(title, tuple(lines), middle, "lag, tokens since the value (middle of a bin)", value, error, unit, settings.direction, facts(settings, found))


def over_load(settings: Architectures, found: list[Found]) -> Curves:
    loads = np.array(list(found[0].answers), float)
    value = np.stack([*(np.array([a.right.mean() for a in f.answers.values()]) for f in found), np.full(len(loads), tasks.CHANCE)])
    error = np.stack([*(np.array([a.right.std() / len(a.right) ** 0.5 for a in f.answers.values()]) for f in found), np.full(len(loads), np.nan)])
    return Curves("Recall over load", (*(DESIGNS[f.name].title for f in found), "chance"), loads, "pairs held at once", value, error,
                  "share of questions answered right, all lags", settings.direction, facts(settings, found))


def lag_load(settings: Architectures, found: list[Found]) -> Grid:
    """One row a memory and load, so that two memories can be read side by side."""
    edges = bins(settings)
    rows, value, error = [], [], []
    for f in found:
        for load, said in f.answers.items():
            mean, spread = binned(said.right, said.lag, edges)
            rows.append(f"{DESIGNS[f.name].title}, {load} pair{'s' * (load > 1)}")
            value.append(mean)
            error.append(spread)
    columns = tuple(f"{low}-{min(high, settings.length - 1)}" for low, high in edges)
    return Grid("Recall over lag and load", tuple(rows), columns, "memory and load", "lag, tokens",
                np.stack(value), np.stack(error), "share of questions answered right", settings.direction, facts(settings, found))


def against_bytes(settings: Architectures, found: list[Found]) -> Scatter:
    recall = np.array([f.answers[settings.pairs].right.mean() for f in found])
    size = np.array([float(f.bytes) for f in found])
    best = [f for f, r, s in zip(found, recall, size, strict=True) if not any((recall >= r) & (size <= s) & ((recall > r) | (size < s)))]
    labels = tuple(DESIGNS[f.name].title for f in found)
    more = (f"nothing recalls more with as little: {', '.join(DESIGNS[f.name].title for f in sorted(best, key=lambda f: f.bytes))}",)
    return Scatter(f"Recall against bytes of state, {settings.pairs} pairs", labels, size, recall, f"bytes of state after {settings.length} tokens",
                   "share of questions answered right", False, settings.direction, facts(settings, found)[::2] + more)


def table(settings: Architectures, found: list[Found]) -> Table:
    loads = tuple(found[0].answers)
    columns = ("memory", "what it does", "bytes", "parameters", *(f"recall, {n} pairs" for n in loads), "fidelity")
    about = ("name in models/memory", "what it carries from token to token", f"of state after {settings.length} tokens; lower is cheaper",
             "of the net, trained and frozen",
             *(f"share of questions answered right with {n} pairs, 0 to 1; higher: more is remembered" for n in loads),
             f"Jensen-Shannon divergence of the answer when its stored value is swapped, {settings.pairs} pairs, bits, 0 to 1; higher: the answer follows it")
    rows = tuple((f.name, DESIGNS[f.name].about, float(f.bytes), float(f.parameters), *(float(f.answers[n].right.mean()) for n in loads),
                  None if f.effects is None else float(f.effects.divergence.mean())) for f in found)
    return Table("Memory architectures", columns, about, rows, facts(settings, found)[::2])


FIGURES: dict[str, Callable[..., Event]] = {"recall over lag": over_lag, "recall over load": over_load, "lag x load": lag_load, "fidelity over lag": fidelity,
           "recall against bytes": against_bytes, "table": table}
