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
    """Causal trace: how much of the answer's probability comes back when one clean state is restored in a corrupted run.

    `effect[t, l]` is the indirect effect P*[restore token t after layer l] - P*, in probability: mean over the noise samples,
    higher is more responsible, range -1 to 1, NaN where it has not been computed yet. `effect_se` is its standard error.
    Layer 0 is the output of the first block. Source: Meng et al. 2022, arXiv 2202.05262.
    """

    prompt: str
    tokens: tuple[str, ...]
    subject: tuple[int, int]  # first subject token, and one past the last
    answer: str
    answer_tokens: tuple[str, ...]
    layers: tuple[int, ...]
    effect: Float[np.ndarray, "tokens layers"]
    effect_se: Float[np.ndarray, "tokens layers"]
    clean: float  # P: probability of the answer, all its tokens, clean run
    corrupted: float  # P*: the same, mean over the noise samples
    corrupted_se: float
    samples: int
    noise_std: float  # standard deviation of the noise that was added, in units of the embedding
    top: tuple[tuple[str, float], ...]  # the most likely next tokens of the clean run, with their probabilities

    def __post_init__(self) -> None:
        if not self.effect.shape == self.effect_se.shape == (len(self.tokens), len(self.layers)):
            raise ValueError(f"the map is {self.effect.shape} and {self.effect_se.shape} for {len(self.tokens)} tokens and {len(self.layers)} layers")
        begin, end = self.subject
        if not 0 <= begin < end <= len(self.tokens):
            raise ValueError(f"the subject is {self.subject} of {len(self.tokens)} tokens")

    @property
    def total_effect(self) -> float:
        """P - P*: what the corruption took away, and so the most that a restored state can be expected to bring back."""
        return self.clean - self.corrupted


Event = Progress | TraceMap
KINDS = {kind.__name__: kind for kind in (Progress, TraceMap)}
PLAIN: dict[str, Any] = {"str": str, "int": int, "float": (int, float)}


def to_json(event: Event) -> dict[str, Any]:
    """The event as plain JSON values: `kind` and its fields; arrays become lists, NaN becomes null."""
    return {"kind": type(event).__name__} | {f.name: _plain(getattr(event, f.name)) for f in fields(event)}


def from_json(value: dict[str, Any]) -> Event:
    """The event that `to_json` wrote, to the last bit. Raises `ValueError` or `TypeError` on what it cannot have written."""
    kind = KINDS.get(value.get("kind", ""))
    if kind is None or {f.name for f in fields(kind)} != set(value) - {"kind"}:
        raise ValueError(f"this is no event of the lab: its kind is {value.get('kind')!r}")
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
