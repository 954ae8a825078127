"""What an experiment yields: frozen values on the CPU, numpy only. Each carries all that is needed to draw it; none is a delta."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from lab import png


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
    # in a mixture of experts, a choice being that of one token in one layer of one corrupted run: choices, from the subject on, that are others than in
    # the clean run, of how many; choices that are others than in the corrupted run once a state is restored, of how many that were made again
    rerouted: tuple[int, ...] = ()

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
    """Points with names, such as an approximation (`x`) against what it approximates (`y`); on the diagonal where `same` both are one quantity.

    `groups` says of every point what it is one of, and is empty where all are alike.
    """

    title: str
    labels: tuple[str, ...]
    x: Float[np.ndarray, " points"]
    y: Float[np.ndarray, " points"]
    x_name: str
    y_name: str
    same: bool
    direction: str
    facts: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.x.shape == self.y.shape == (len(self.labels),) or len(self.groups) not in (0, len(self.labels)):
            raise ValueError(f"{self.x.shape} and {self.y.shape} for {len(self.labels)} labels, {len(self.groups)} groups")


@dataclass(frozen=True)
class Table:
    """Named rows and columns of words and numbers, to be sorted and filtered. `about[i]` says of column i what it is, its range and its direction.

    A cell is a text, a number, or None where there is nothing to say; `missing` says why, once, for all of those.
    """

    title: str
    columns: tuple[str, ...]
    about: tuple[str, ...]
    rows: tuple[tuple[str | float | None, ...], ...]
    facts: tuple[str, ...] = ()
    missing: str = ""

    def __post_init__(self) -> None:
        if len(self.about) != len(self.columns) or any(len(row) != len(self.columns) for row in self.rows):
            raise ValueError(f"the table has {len(self.columns)} columns, {len(self.about)} explanations, and rows of another length")


@dataclass(frozen=True)
class Survey:
    """What was measured of many items. `value[i, m]` is measure m of item i, NaN where it cannot be had.

    `items` are the names that lab.items finds them by, `labels` words for people, `copies` how often each stood in the corpus, -1 where nobody
    knows. `about[m]` says what measure m is and its range; `sign[m]` is 1 where higher is more memorized, -1 where lower is.
    """

    title: str
    items: tuple[str, ...]
    labels: tuple[str, ...]
    kinds: tuple[str, ...]
    splits: tuple[str, ...]
    copies: Float[np.ndarray, " items"]
    measures: tuple[str, ...]
    about: tuple[str, ...]
    sign: tuple[int, ...]
    value: Float[np.ndarray, "items measures"]
    facts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.value.shape != (len(self.items), len(self.measures)) or not len(self.items) == len(self.labels) == len(self.kinds) == len(self.splits):
            raise ValueError(f"the survey is {self.value.shape} for {len(self.items)} items and {len(self.measures)} measures")


@dataclass(frozen=True)
class Completion:
    """A text as the model reads it, token by token: the first `given` tokens ask, the others would be recited.

    `probability[t]` is what the model gave to token t before it saw it (NaN for the first), `rank[t]` its place among all tokens, 1 the likeliest,
    and `likeliest[t]` the token it held for likeliest there. `said` is what greedy decoding writes after the given tokens.
    """

    title: str
    tokens: tuple[str, ...]
    given: int
    probability: Float[np.ndarray, " tokens"]
    rank: Float[np.ndarray, " tokens"]
    likeliest: tuple[str, ...]
    said: str
    direction: str
    facts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.probability.shape == self.rank.shape == (len(self.tokens),) or len(self.likeliest) != len(self.tokens):
            raise ValueError(f"{len(self.tokens)} tokens with {self.probability.shape} probabilities and {self.rank.shape} ranks")


@dataclass(frozen=True)
class Unlearning:
    """An unlearning run from its first step to now. `value[s, i]` is series s at step `step[i]`, NaN where it was not measured.

    `series` are named "forget", "retain", ...; `groups[s]` says which chart a series belongs to ("loss", "accuracy", ...) and `better[s]` what is wanted of
    it ("up", "down", "as the oracle"). `low[s]` to `high[s]` is where the oracles lie, NaN where there is none. `samples` are (prompt, truth, before,
    now, oracle). `change[l]` is the norm of what was added to the weights of `layers[l]` over the norm of these weights. `cost` counts the passes so far
    in fine-tuning steps, one forward and one backward of a batch each. `ended` says why the run ended, and is empty while it goes on.
    """

    title: str
    step: Float[np.ndarray, " points"]
    series: tuple[str, ...]
    groups: tuple[str, ...]
    better: tuple[str, ...]
    value: Float[np.ndarray, "series points"]
    low: Float[np.ndarray, " series"]
    high: Float[np.ndarray, " series"]
    samples: tuple[tuple[str, str, str, str, str], ...]
    layers: tuple[str, ...]
    change: Float[np.ndarray, " layers"]
    cost: float
    ended: str = ""
    facts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.series)
        if self.value.shape != (n, len(self.step)) or not len(self.groups) == len(self.better) == len(self.low) == len(self.high) == n:
            raise ValueError(f"the run is {self.value.shape} for {n} series and {len(self.step)} steps")
        if self.change.shape != (len(self.layers),):
            raise ValueError(f"{self.change.shape} changes for {len(self.layers)} layers")


@dataclass(frozen=True)
class AttentionMap:
    """Who reads whom in one text. `weight[q, k]` is what the tokens of `parts[q]` take from those of `parts[k]`: sum over keys, mean over queries.

    A part is one token, or a few neighbours where the text is long; it is given by its first token, and one past its last. `detail` is then a window
    token by token, from query `detail_from[0]` and key `detail_from[1]` on, and empty where every part is one token. Raw weights and rollouts are shares:
    a row sums to one. Value-weighted ones are norms in units of the residual stream. NaN where a query reads nothing that is counted. `sink_masked`: the
    first token is not counted as a key. Token t belongs to `segments[segment_of[t]]`. `entropy` (nats) and `sink`, the share on the first token, are means
    over the queries after the first, for every head of `layers`, NaN where they have not been read yet.
    Sources: Abnar & Zuidema 2020, arXiv 2005.00928; Kobayashi et al. 2020, arXiv 2004.10102; Xiao et al. 2023, arXiv 2309.17453.
    """

    title: str
    tokens: tuple[str, ...]
    parts: tuple[tuple[int, int], ...]
    weight: Float[np.ndarray, "parts parts"]
    detail: Float[np.ndarray, "*window"]
    detail_from: tuple[int, int]
    layer: int
    head: int  # -1: all heads, their mean
    variant: str  # "raw", "value-weighted" or "rollout"
    sink_masked: bool
    unit: str
    direction: str
    segments: tuple[str, ...]
    segment_of: tuple[int, ...]
    layers: tuple[int, ...]
    entropy: Float[np.ndarray, "layers heads"]
    sink: Float[np.ndarray, "layers heads"]
    diverging: bool = False  # the weights are differences, B - A
    facts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.parts)
        if self.weight.shape != (n, n) or not self.entropy.shape == self.sink.shape == (len(self.layers), self.entropy.shape[-1]):
            raise ValueError(f"the map is {self.weight.shape} for {n} parts, {self.entropy.shape} and {self.sink.shape} for {len(self.layers)} layers")
        if n == 0 or self.parts[0][0] != 0 or self.parts[-1][1] != len(self.tokens) or any(a[1] != b[0] for a, b in pairwise(self.parts)):
            raise ValueError(f"the parts are not the {len(self.tokens)} tokens, each once")
        if len(self.segment_of) != len(self.tokens) or not set(self.segment_of) <= set(range(len(self.segments))):
            raise ValueError(f"{len(self.segment_of)} tokens belong to segments, of {len(self.tokens)}")


@dataclass(frozen=True)
class Pictures:
    """Pictures on a table of named rows and columns, in one or several frames, such as steps, that are looked at one after the other.

    `image` holds all of them: frame by frame, in each row by row. Beside picture i may stand another, such as the nearest training picture: it is
    `other[beside[i]]`, with the name `names[beside[i]]`; -1 where there is none. `score[i]` says how near it is, in `unit`, NaN where nothing is said, and
    above `threshold` it counts as a copy (NaN: there is none). `labels[i]` are further words under a picture. `frame` is the one to be shown first.
    In JSON every picture is a PNG in base64 (lab.png).
    """

    title: str
    frames: tuple[str, ...]
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    frame_name: str
    row_name: str
    column_name: str
    image: UInt8[np.ndarray, "pictures height width 3"]
    labels: tuple[str, ...]
    other: UInt8[np.ndarray, "others high wide 3"]
    names: tuple[str, ...]
    beside: tuple[int, ...]
    score: Float[np.ndarray, " pictures"]
    unit: str
    threshold: float
    direction: str
    frame: int
    facts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.frames) * len(self.rows) * len(self.columns)
        if not len(self.image) == len(self.labels) == len(self.beside) == len(self.score) == n:
            raise ValueError(f"{len(self.image)} pictures for {len(self.frames)} frames of {len(self.rows)} rows and {len(self.columns)} columns")
        if len(self.other) != len(self.names) or not all(-1 <= b < len(self.names) for b in self.beside) or not -1 <= self.frame < max(1, len(self.frames)):
            raise ValueError(f"{len(self.other)} pictures stand beside, with {len(self.names)} names")

    def at(self, frame: int, row: int, column: int) -> int:
        """The number of a picture."""
        return (frame * len(self.rows) + row) * len(self.columns) + column

    def copied(self) -> tuple[bool, ...]:
        """Of every picture, whether it counts as a copy of what stands beside it."""
        return tuple(bool(s > self.threshold) for s in self.score)


@dataclass(frozen=True, eq=False)
class Edited:
    """A model as it is after `step` steps of an edit. A live value for who runs the experiment: like `Progress` it is in no record and no JSON.

    `weights` is a `models.model.Model`, whose lineage says what was done; `loss` its forget loss then (of pictures, their mean SSIM with what
    was to be erased), NaN where none is measured.
    """

    step: int
    weights: Any
    loss: float = float("nan")


LIVE = (Progress, Edited)  # what is used when it comes, and never kept in a record
Event = Progress | TraceMap | Grid | Curves | Scatter | Table | Survey | Completion | Unlearning | AttentionMap | Pictures | Edited
KINDS = {kind.__name__: kind for kind in (Progress, TraceMap, Grid, Curves, Scatter, Table, Survey, Completion, Unlearning, AttentionMap, Pictures)}
PLAIN: dict[str, Any] = {"str": str, "int": int, "bool": bool, "float": (int, float)}


def to_json(event: Event) -> dict[str, Any]:
    """The event as plain JSON values: `event`, the name of its type, and its fields; arrays become lists, NaN becomes null, pictures PNG."""
    return {"event": type(event).__name__} | {f.name: _plain(getattr(event, f.name)) for f in fields(event)}


def from_json(value: dict[str, Any]) -> Event:
    """The event that `to_json` wrote, to the last bit; what an older lab did not write yet has its default.

    Raises `ValueError` or `TypeError` on what it cannot have written.
    """
    kind = KINDS.get(value.get("event", ""))
    given = set(value) - {"event"}
    if kind is None or not {f.name for f in fields(kind) if f.default is MISSING} <= given <= {f.name for f in fields(kind)}:
        raise ValueError(f"this is no event of the lab: it calls itself {value.get('event')!r}")
    make: Any = kind
    return make(**{f.name: _read(f.name, str(f.type), value[f.name]) for f in fields(kind) if f.name in given})


def _read(name: str, type_: str, value: Any) -> Any:
    """The value of a field, from plain JSON."""
    if type_.startswith("UInt8"):
        found = [png.decode(v) for v in value]
        return np.stack(found) if found else np.zeros((0, 0, 0, 3), np.uint8)
    if "ndarray" in type_:
        return np.array(value, float)
    if type_ == "float" and value is None:
        return float("nan")
    if not isinstance(value, list if type_.startswith("tuple") else PLAIN.get(type_, object)):
        raise ValueError(f"its {name} is {value!r:.40}")
    return _tuples(value)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype == np.uint8:
        return [png.encode(picture) for picture in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and np.isnan(value) else value


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
