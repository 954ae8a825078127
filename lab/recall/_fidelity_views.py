"""What was measured so far, as the figure that was asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from lab.events import Curves, Event, Grid, Scatter, Table
from lab.recall._layers import Kept
from lab.recall._material import Stock
from lab.recall._measures import Answers
from lab.recall._numbers import mean_and_error, spearman
from lab.recall._policies import Policy

if TYPE_CHECKING:
    from lab.recall.fidelity import Fidelity

UNTRAINED = "untrained"
BITS = "Jensen-Shannon divergence, bits, 0 to 1"
ABOUT = {
    "cued": "divergence of the answer when its value is swapped; bits, 0 to 1, higher: more is held",
    "margin": "nats by which what was said beats the other value; higher: better",
    "recall": "share of answers that are the likeliest of all values in stock; 0 to 1",
    "uncued": "how far the swap moves the state at the end of the context, a share of its length; from 0, higher: more",
    "horizontal": "cosine of a token and its reconstruction so much later; -1 to 1, higher: more is left",
    "cosine": "cosine of states so far apart; -1 to 1",
}


@dataclass
class Found:
    """Filled as the run goes on: model 0 is the one that was asked about, model 1 its untrained twin."""

    settings: Fidelity
    name: str
    policy: Policy
    lags: list[int]
    loads: list[int]
    stock: Stock
    bytes: int
    length: int
    answers: dict[tuple[int, int, int], Answers] = field(default_factory=dict)
    kept: dict[int, Kept] = field(default_factory=dict)

    def mean(self, measure: str, model: int, lag: int, load: int) -> tuple[float, float]:
        """Mean and standard error of a measure in a cell, NaN where it was not measured."""
        if measure in ("horizontal", "cosine"):
            mine = self.kept.get(model)
            return (np.nan, np.nan) if mine is None else (float(getattr(mine, measure)[self.lags.index(lag)]), np.nan)
        answers = self.answers.get((model, lag, load))
        if answers is None:
            return np.nan, np.nan
        value, error = mean_and_error(getattr(answers, measure))
        return float(value), float(error)

    def grid(self, measure: str, model: int) -> tuple[Float[np.ndarray, "loads lags"], Float[np.ndarray, "loads lags"]]:
        both = np.array([[self.mean(measure, model, lag, load) for lag in self.lags] for load in self.loads])
        return both[..., 0], both[..., 1]

    @property
    def models(self) -> list[int]:
        return [0, 1] if self.settings.baseline else [0]

    @property
    def facts(self) -> tuple[str, ...]:
        chance = 1 / len(self.stock.told)
        return (f"{self.name} · {self.policy.label} · {self.bytes / 1024:.4g} KiB after {self.length} tokens",
                f"{self.stock.kind}: {len(self.stock.names)} keys, {len(self.stock.told)} values, chance {chance:.3f}; {self.settings.repeats} texts a cell")


def view(found: Found) -> Event:
    show = found.settings.show
    if show in ("distance", "recall"):
        return curves(found, "cued" if show == "distance" else "recall")
    figures: dict[str, Callable[[Found], Event]] = {"distance and load": grid, "measures": measures, "depth": depth, "which follows recall": scatter,
                                                    "table": table}
    return figures[show](found)


def curves(found: Found, measure: str) -> Curves:
    lines, value, error = [], [], []
    for model in found.models:
        mean, spread = found.grid(measure, model)
        mine = range(len(found.loads)) if model == 0 else [0]
        for i in mine:
            lines.append(f"{found.loads[i]} stored" + (f", {UNTRAINED}" if model else ""))
            value.append(mean[i])
            error.append(spread[i])
    title, unit = ("Cued fidelity over distance", BITS) if measure == "cued" else ("Recall over distance", "share recalled, of all values in stock")
    return Curves(title, tuple(lines), np.array(found.lags, float), "tokens between statement and cue", np.array(value), np.array(error), unit,
                  found.settings.direction, found.facts)


def grid(found: Found) -> Grid:
    mean, error = found.grid("cued", 0)
    return Grid("Cued fidelity over distance and load", tuple(map(str, found.loads)), tuple(map(str, found.lags)), "statements in the text", "tokens back",
                mean,
                error, BITS, found.settings.direction, found.facts)


def measures(found: Found) -> Curves:
    """All measures over distance at the smallest load; the margin, in nats, is left to the table."""
    names = ("cued", "recall", "uncued", "horizontal", "cosine")
    lines = [(m, model) for model in found.models for m in names]
    both = np.array([[found.mean(m, model, lag, found.loads[0]) for lag in found.lags] for m, model in lines])
    return Curves("Measures of memory over distance", tuple(f"{m}, {UNTRAINED}" if model else m for m, model in lines), np.array(found.lags, float),
                  "tokens between statement and cue", both[..., 0], both[..., 1], "each in its own unit", found.settings.direction,
                  (*found.facts, f"{found.loads[0]} stored; horizontal is our interpretation of MemMamba's token fidelity"))


def depth(found: Found) -> Curves:
    mine = [found.kept.get(m) for m in found.models]
    layers = len(next((k.vertical for k in mine if k is not None), ()))
    value = np.array([np.full(layers, np.nan) if k is None else k.vertical for k in mine])
    return Curves("What the last layer still tells of those below", tuple((found.name, UNTRAINED)[m] for m in found.models), np.arange(layers, dtype=float),
                  "layer, 0 is the embedding", value, np.full_like(value, np.nan), "cosine of a state and its linear reconstruction", found.settings.direction,
                  (*found.facts, "our interpretation of MemMamba's cross-layer fidelity", "it asks for nothing that the model has to remember: compare the "
                   "untrained one"))


def scatter(found: Found) -> Scatter:
    """Every cell of the model and of its untrained twin: the chosen measure against recall; rank correlations of all measures in the facts."""
    cells = [(m, lag, load) for m in found.models for lag in found.lags for load in found.loads]
    name = found.settings.measure

    def column(measure: str, models: tuple[int, ...] = (0, 1)) -> np.ndarray:
        return np.array([found.mean(measure, *c)[0] for c in cells if c[0] in models])

    told = [f"{m} {spearman(column(m, (0,)), column('recall', (0,))):+.2f}" for m in ABOUT if m != "recall"]
    both = [f"{m} {spearman(column(m), column('recall')):+.2f}" for m in ABOUT if m != "recall"] if found.settings.baseline else []
    facts = (*found.facts, f"rank correlation with recall over cells: {', '.join(told)}", *([f"with the untrained cells: {', '.join(both)}"] if both else []))
    return Scatter("Which measure follows recall?", tuple(f"{found.name if m == 0 else UNTRAINED}: {load} stored, {lag} back" for m, lag, load in cells),
                   column(name), column("recall"), f"{name}: {ABOUT[name].split(';')[0]}", "recall", False, found.settings.direction, facts)


def table(found: Found) -> Table:
    names = tuple(ABOUT)
    rows = []
    for model in found.models:
        for lag in found.lags:
            for load in found.loads:
                cells = [found.mean(m, model, lag, load) for m in names]
                flat = [None if np.isnan(x) else x for mean, error in cells for x in (mean, error)]
                rows.append((UNTRAINED if model else found.name, float(lag), float(load), *flat))
    columns = ("model", "lag", "load", *(c for m in names for c in (m, f"± {m}")))
    about = ("which network", "tokens between statement and cue", "statements in the text", *(c for m in names for c in (ABOUT[m], "its standard error")))
    return Table("Memory fidelity", columns, about, tuple(rows), found.facts,
                 "not measured: it does not fit the context, the policy leaves no states to compare, or a figure over all texts has no error")
