"""What is known of every head so far, and the figures made from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from torch import Tensor

from lab.attention._head_scores import COPY, SCORES, SINK
from lab.events import Event, Grid, Scatter, Table

if TYPE_CHECKING:
    from lab.attention.heads import HeadScores

EFFECT = "loss without it"
ABOUT = {
    "previous token": "share of its attention to the token before, 0 to 1; higher: more of a previous-token head",
    "duplicate token": "share of its attention to earlier places of the same token, 0 to 1; higher: more of a duplicate-token head",
    "induction": "share of its attention to the tokens after earlier places of the same token, 0 to 1; higher: more of an induction head",
    "sink": "mean attention to the first position, 0 to 1; higher: rests there more",
    "copy": "share of tokens whose own logit it raises most when it looks at them alone, 0 to 1; higher: copies more",
}


@dataclass
class Heads:
    """Scores and effects, each (layers, heads) with NaN where it is not known (yet); errors are standard errors over sequences, or answers."""

    settings: HeadScores
    layers: int
    heads: int
    score: dict[str, np.ndarray] = field(default_factory=dict)
    score_error: dict[str, np.ndarray] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.score, self.score_error = ({name: self.empty() for name in SCORES} for _ in range(2))
        self.effect, self.effect_error = self.empty(), self.empty()

    def empty(self) -> np.ndarray:
        return np.full((self.layers, self.heads), np.nan)

    def scored(self, found: dict[str, dict[int, Tensor]]) -> None:
        """Score -> layer -> (rows, heads)."""
        for name, by_layer in found.items():
            for layer, value in by_layer.items():
                self.score[name][layer], self.score_error[name][layer] = mean_and_error(value)

    def ablated(self, layer: int, rise: Tensor) -> None:
        """(rows, heads)."""
        self.effect[layer], self.effect_error[layer] = mean_and_error(rise)


def mean_and_error(value: Tensor) -> tuple[Float[np.ndarray, " heads"], Float[np.ndarray, " heads"]]:
    """Mean over rows, and its standard error; NaN where there is one row only."""
    rows = value.double().cpu().numpy()
    error = rows.std(0, ddof=1) / len(rows) ** 0.5 if len(rows) > 1 else np.full(rows.shape[1], np.nan)
    return rows.mean(0), error


def view(heads: Heads, show: str) -> Event:
    if show == "score":
        name = heads.settings.score
        return grid(heads, heads.score[name], heads.score_error[name], f"{name} score", ABOUT[name], False)
    if show == "effect":
        return grid(heads, heads.effect, heads.effect_error, f"rise of the loss without the head ({heads.settings.ablation} ablation), nats a token",
                    "higher: the model loses more without this head", True)
    return table(heads) if show == "table" else scatter(heads)


def grid(heads: Heads, value: np.ndarray, error: np.ndarray, unit: str, direction: str, diverging: bool) -> Grid:
    """Heads down, layers across, as other figures of heads have them."""
    return Grid(title(heads), tuple(f"head {h}" for h in range(heads.heads)), tuple(map(str, range(heads.layers))), "head", "layer", value.T.copy(),
                error.T.copy(), unit, direction, facts(heads), diverging=diverging)


def scatter(heads: Heads) -> Scatter:
    x, y = heads.score[heads.settings.score].ravel(), heads.effect.ravel()
    known = np.isfinite(x) & np.isfinite(y)
    labels = tuple(name for name, there in zip(names(heads), known, strict=True) if there)
    return Scatter(title(heads), labels, x[known], y[known], f"{heads.settings.score} score", f"nats a token lost without the head ({heads.settings.ablation})",
                   False, type(heads.settings).direction, facts(heads))


def table(heads: Heads) -> Table:
    numbers = [heads.score[name].ravel() for name in SCORES] + [heads.effect.ravel()]
    rows = tuple((name, *(float(v) if np.isfinite(v) else None for v in values)) for name, *values in zip(names(heads), *numbers, strict=True))
    about = ("layer and query head", *(ABOUT[name] for name in SCORES),
             f"rise of the mean loss in nats a token under {heads.settings.ablation} ablation, any number; higher: the model loses more without it")
    return Table(title(heads), ("head", *SCORES, EFFECT), about, rows, facts(heads), "not measured, or not to be seen in this model")


def names(heads: Heads) -> list[str]:
    return [f"layer {layer} head {head}" for layer in range(heads.layers) for head in range(heads.heads)]


def title(heads: Heads) -> str:
    s = heads.settings
    return f"{heads.layers * heads.heads} heads on {s.sequences} sequences of {s.length} random tokens, repeated"


def facts(heads: Heads) -> tuple[str, ...]:
    """The strongest head, how score and effect go together, and what the losses are undisturbed."""
    name = heads.settings.score
    values, effect = heads.score[name].ravel(), heads.effect.ravel()
    lines = list(heads.lines)
    if np.isfinite(values).any():
        best = int(np.nanargmax(values))
        after = f", {effect[best]:+.3f} nats without it" if np.isfinite(effect[best]) else ""
        lines.append(f"{names(heads)[best]} has the highest {name} score, {values[best]:.3f}{after}")
    if np.isfinite(effect).any():
        worst = int(np.nanargmax(effect))
        lines.append(f"{names(heads)[worst]} is missed most, {effect[worst]:+.3f} nats a token ({heads.settings.ablation} ablation, "
                     f"{heads.settings.on})")
        lines.append(correlations(values, effect))
    if name == COPY:
        lines.append(f"by chance a head copies {1 / heads.settings.length:.3f}")
    if name == SINK:
        lines.append("a head that rests on the first position may do nothing there: see its effect")
    return tuple(lines)


def correlations(x: np.ndarray, y: np.ndarray) -> str:
    """Pearson's and Spearman's correlation of score and effect over the heads that have both, in words."""
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return f"no correlation can be told from {len(x)} heads" if len(x) < 3 else "all heads are alike in score or effect: no correlation"
    r, rho = np.corrcoef(x, y)[0, 1], np.corrcoef(ranks(x), ranks(y))[0, 1]
    return f"score and effect over {len(x)} heads: r = {r:.2f}, rank correlation {rho:.2f}"


def ranks(x: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Ranks from 0; equal values share their mean rank."""
    _, place, count = np.unique(x, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count + 1) / 2)[place]
