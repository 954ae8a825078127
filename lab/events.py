"""What an experiment yields: frozen values on the CPU, numpy only. Each carries all that is needed to draw it; none is a delta."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class Progress:
    """`done` of `total` units of work; `total` 0 while it is not known, as when a run waits for its device."""

    done: int
    total: int
    note: str = ""


@dataclass(frozen=True)
class TraceMap:
    """Causal trace: how much of the answer comes back when one clean state is restored in a corrupted run.

    `effect[t, l]` is the indirect effect m*[restore token t at layer l] - m*, m being `score`: mean over the corrupted runs, higher is more
    responsible, NaN where it has not been computed yet; in probability its range is -1 to 1. `effect_se` is its standard error. Rows in `pending`
    still hold the `approximation` (NaN throughout where none was asked for). Layer 0 is the first block.
    Sources: Meng et al. 2022, arXiv 2202.05262; Zhang & Nanda 2024, arXiv 2309.16042; approximation: Nanda 2023 and Kramár et al. 2024, arXiv 2403.00745.
    """

    prompt: str
    tokens: tuple[str, ...]
    subject: tuple[int, int]  # first subject token, and one past the last
    answer: str
    answer_tokens: tuple[str, ...]
    layers: tuple[int, ...]
    effect: Float[np.ndarray, "tokens layers"]
    effect_se: Float[np.ndarray, "tokens layers"]
    clean: float  # m: score of the answer, all its tokens, clean run
    corrupted: float  # m*: the same, mean over the corrupted runs
    corrupted_se: float
    samples: int  # corrupted runs
    noise_std: float  # standard deviation of the noise that was added, in units of the embedding; 0 where none was
    top: tuple[tuple[str, float], ...]  # the most likely next tokens of the clean run, with their probabilities
    approximation: Float[np.ndarray, "tokens layers"]
    pending: tuple[int, ...]
    kind: str  # what is restored: "hidden", "mlp", "attention", "severed mlp", "severed attention"
    windows: tuple[tuple[int, int], ...]  # for each layer the layers that are restored together: first, and one past the last
    score: str  # "probability", "log probability", "logit difference" or one of these "recovered"
    corruption: str  # "gaussian", "replacement", "mean" or "zero"
    foil: str  # what the answer is compared with in a logit difference
    replaced: tuple[str, ...]  # the subjects that stood in the corrupted prompts, where they were replaced
    engine: str  # how the cells were run: "suffix" (from the restored token on), "restart" (from the restored layer on) or "plain"
    check: float  # largest difference of checked cells from a plain hooked forward, in the score; NaN before the check
    cells: int  # cells of the map
    filled: int  # of these, cells that cannot differ from the corrupted run and were not run
    flops: float  # floating-point operations that were run, counted from the sizes of the blocks
    loop_flops: float  # the same for a loop of one whole forward a cell

    def __post_init__(self) -> None:
        shape = (len(self.tokens), len(self.layers))
        if not self.effect.shape == self.effect_se.shape == self.approximation.shape == shape or len(self.windows) != shape[1]:
            raise ValueError(f"the map is {self.effect.shape} and {self.effect_se.shape} for {shape[0]} tokens and {shape[1]} layers")
        begin, end = self.subject
        if not 0 <= begin < end <= len(self.tokens):
            raise ValueError(f"the subject is {self.subject} of {len(self.tokens)} tokens")

    @property
    def total_effect(self) -> float:
        """m - m*: what the corruption took away, and so the most that a restored state can be expected to bring back."""
        return self.clean - self.corrupted


@dataclass(frozen=True)
class Grid:
    """Numbers on a table of named rows and columns. `unit` says what they are, `direction` what a higher one means.

    `value` is NaN where there is none (yet); `error` is its standard error, NaN where it has none. `notes` are words to stand in the cells, one
    tuple a row, or empty. `diverging`: zero is the middle of the colours. `facts` are lines to stand over the figure.
    """

    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    row_name: str
    column_name: str
    value: Float[np.ndarray, "rows columns"]
    error: Float[np.ndarray, "rows columns"]
    unit: str
    direction: str
    facts: tuple[str, ...] = ()
    notes: tuple[tuple[str, ...], ...] = ()
    diverging: bool = False

    def __post_init__(self) -> None:
        if not self.value.shape == self.error.shape == (len(self.rows), len(self.columns)):
            raise ValueError(f"the grid is {self.value.shape} and {self.error.shape} for {len(self.rows)} rows and {len(self.columns)} columns")


@dataclass(frozen=True)
class Curves:
    """Lines over one axis: `value[i]` is the line called `lines[i]`, `error` half the width of its band (NaN where it has none)."""

    title: str
    lines: tuple[str, ...]
    x: Float[np.ndarray, " points"]
    x_name: str
    value: Float[np.ndarray, "lines points"]
    error: Float[np.ndarray, "lines points"]
    unit: str
    direction: str
    facts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.value.shape == self.error.shape == (len(self.lines), len(self.x)):
            raise ValueError(f"the curves are {self.value.shape} and {self.error.shape} for {len(self.lines)} lines and {len(self.x)} points")


@dataclass(frozen=True)
class Scatter:
    """Points with names, such as an approximation (`x`) against what it approximates (`y`); on the diagonal where `same` both are one quantity."""

    title: str
    labels: tuple[str, ...]
    x: Float[np.ndarray, " points"]
    y: Float[np.ndarray, " points"]
    x_name: str
    y_name: str
    same: bool
    direction: str
    facts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.x.shape == self.y.shape == (len(self.labels),):
            raise ValueError(f"{self.x.shape} and {self.y.shape} for {len(self.labels)} labels")


Event = Progress | TraceMap | Grid | Curves | Scatter
KINDS = {kind.__name__: kind for kind in (Progress, TraceMap, Grid, Curves, Scatter)}
PLAIN: dict[str, Any] = {"str": str, "int": int, "bool": bool, "float": (int, float)}


def to_json(event: Event) -> dict[str, Any]:
    """The event as plain JSON values: `event`, the name of its type, and its fields; arrays become lists, NaN becomes null."""
    return {"event": type(event).__name__} | {f.name: _plain(getattr(event, f.name)) for f in fields(event)}


def from_json(value: dict[str, Any]) -> Event:
    """The event that `to_json` wrote, to the last bit. Raises `ValueError` or `TypeError` on what it cannot have written."""
    kind = KINDS.get(value.get("event", ""))
    if kind is None or {f.name for f in fields(kind)} != set(value) - {"event"}:
        raise ValueError(f"this is no event of the lab: it calls itself {value.get('event')!r}")
    make: Any = kind
    return make(**{f.name: _read(f.name, str(f.type), value[f.name]) for f in fields(kind)})


def _read(name: str, type_: str, value: Any) -> Any:
    """The value of a field, from plain JSON."""
    if "ndarray" in type_:
        return np.array(value, float)
    if type_ == "float" and value is None:
        return float("nan")
    if not isinstance(value, list if type_.startswith("tuple") else PLAIN.get(type_, object)):
        raise ValueError(f"its {name} is {value!r:.40}")
    return _tuples(value)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and np.isnan(value) else value


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
