"""The figures of a memory at work."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from lab.events import Curves, Event, Grid, Table
from models.memory import tasks
from models.memory.designs import DESIGNS

if TYPE_CHECKING:
    from lab.recall._watch_run import Seen
    from lab.recall.watch import Watch


def words(seen: Seen) -> tuple[str, ...]:
    """Every token with its place, so that columns have names of their own."""
    return tuple(f"{t} {tasks.name(token)}" for t, token in enumerate(seen.text.tokens))


def facts(settings: Watch, seen: Seen) -> tuple[str, ...]:
    """What was asked and answered, once it was."""
    text = seen.text
    key, value, lag = tasks.name(text.tokens[-1]), tasks.name(text.answer), len(text.tokens) - 2 - text.needle
    lines = [f"{DESIGNS[settings.memory].title}, grown with seed {settings.grown}: {seen.bytes:,} bytes of state after {seen.read} tokens"]
    if seen.read == len(text.tokens):
        token, odds, answer = seen.said
        right = "right" if token == text.answer else f"wrong: {value} has {answer:.3f}"
        lines.append(f"asked for {key}, whose value {value} stood {lag} tokens ago, it says {tasks.name(token)} ({odds:.3f}), {right}")
    return tuple(lines)


def remembered(settings: Watch, seen: Seen) -> Grid:
    tokens = seen.text.tokens
    rows = tuple(f"{tasks.name(tokens[at])} {tasks.name(tokens[at + 1])}{' (planted)' if at == seen.text.needle else ''} at {at}" for at in seen.text.pairs)
    return Grid("What would be answered if it were asked now", rows, words(seen), "pair", "after token", seen.remembered, np.full_like(seen.remembered, np.nan),
                "probability of the pair's value", settings.direction, facts(settings, seen))


def signals(settings: Watch, seen: Seen) -> Curves:
    value = np.full((len(seen.signals), len(seen.text.tokens)), np.nan)
    most = []
    for i, (name, found) in enumerate(seen.signals.items()):
        largest = max(map(abs, found)) or 1.0
        value[i, : len(found)] = np.array(found) / largest
        most.append(f"{name} {largest:.3g}")
    place = np.arange(len(seen.text.tokens), dtype=float)
    return Curves("What the memory shows of itself", tuple(seen.signals), place, "token", value, np.full_like(value, np.nan),
                  "share of its largest so far", "higher: more of it at this token", (*facts(settings, seen), f"the largest: {'; '.join(most)}"))


def looked_up(settings: Watch, seen: Seen) -> Grid:
    rows = {"effect of replacing it": np.full(len(seen.text.tokens), np.nan) if seen.effect is None else seen.effect} | seen.lookup
    value = np.stack(list(rows.values()))
    return Grid("What the answer was looked up from", tuple(rows), words(seen), "measure", "token", value, np.full_like(value, np.nan),
                "bits of divergence, or share of attention, 0 to 1", settings.direction, facts(settings, seen))


def routing(settings: Watch, seen: Seen) -> Grid:
    rows, lines = [], []
    for name, found in seen.routing.items():
        gates = np.full((len(found[0]), len(seen.text.tokens)), np.nan)
        gates[:, : len(found)] = np.stack(found, 1)
        rows.append(gates)
        layer, shared = name.split(":")[0], len(gates) - 1
        lines += [f"{layer}: {'shared memory' if m == shared else f'memory {m + 1}'}" for m in range(len(gates))]
    value = np.concatenate(rows)
    return Grid("Which memories each token goes to", tuple(lines), words(seen), "memory", "token", value, np.full_like(value, np.nan), "gate, 0 to 1",
                "above 0: the token is written there and reads from it; higher: it reads more", facts(settings, seen))


def table(settings: Watch, seen: Seen) -> Table:
    """Every token with what the memory showed."""
    names = tuple(seen.signals)
    needle = seen.text.pairs.index(seen.text.needle)
    rows = tuple((float(t), tasks.name(seen.text.tokens[t]), *(seen.signals[n][t] for n in names), _number(seen.remembered[needle, t]),
                  None if seen.effect is None else _number(seen.effect[t])) for t in range(seen.read))
    about = ("place of the token", "the token", *("as the memory reports it; higher: more of it" for _ in names),
             "probability of the planted value if it were asked now, 0 to 1; higher: remembered",
             "divergence of the last answer when this token is replaced, bits, 0 to 1; higher: it hangs on it")
    return Table("Token by token", ("place", "token", *names, "planted value", "effect on the answer"), about, rows, facts(settings, seen),
                 "nothing was planted yet, or the token cannot be replaced")


def _number(value: float) -> float | None:
    return None if value != value else float(value)


FIGURES: dict[str, Callable[[Watch, Seen], Event]] = {"remembered": remembered, "signals": signals, "looked up": looked_up, "routing": routing, "table": table}
