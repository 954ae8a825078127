"""A run over policies: the same cells for each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from lab.events import Curves, Event, Progress, Scatter, Table
from lab.memorization._rows import positions
from lab.recall._cells import Asked, cell, needed
from lab.recall._fidelity import distances, last
from lab.recall._material import stock
from lab.recall._measures import Answers, answered, waited
from lab.recall._numbers import mean_and_error, numbers
from lab.recall._policies import Policy, Reader, frequencies, holding
from lab.recall._settings import DECOUPLED, FULL, HEAVY, ISOLATED, QUANTIZED, SINKS, WINDOW
from models.errors import BadInput
from models.model import Model

if TYPE_CHECKING:
    from lab.recall.policies import MemoryPolicies


@dataclass
class Found:
    settings: MemoryPolicies
    name: str
    lags: list[int]
    policies: list[Policy]
    length: int
    bytes: dict[Policy, int] = field(default_factory=dict)
    answers: dict[tuple[Policy, int], Answers] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)  # policy -> why

    def all_of(self, policy: Policy, measure: str) -> np.ndarray:
        """(texts,): the mean over distances, of those that were read."""
        mine = [getattr(self.answers[policy, lag], measure) for lag in self.lags if (policy, lag) in self.answers]
        return np.mean(mine, 0) if mine else np.full(self.settings.repeats, np.nan)


def policies(settings: MemoryPolicies, model: Model) -> Iterator[Event]:
    """Yields the chosen figure after every policy."""
    yield Progress(0, 0, "choosing what to store")
    stored = stock(model, settings.material)
    lags = distances(settings.lags, model, stored, settings.load, settings.longest)
    length = needed(model, stored, lags[-1], settings.load)
    found = Found(settings, model.name, lags, asked_for(settings, min(positions(model), length)), length)
    cells: dict[int, Asked] = {}
    for lag in lags:
        cells[lag] = cell(model, stored, lag, settings.load, settings.repeats, f"policies {settings.seed}")
        yield Progress(0, 0, f"laying out texts, {lag} tokens back")
    total = len(found.policies) * len(lags)
    for i, policy in enumerate(found.policies):
        try:
            reader = Reader(model, replace(policy, renumber=frequencies(model.net) is not None))
        except BadInput as error:
            found.refused[policy.name] = f"{error.fault}: {error.cause}"
            continue
        found.bytes[policy] = yield from waited(holding(reader, length), i * len(lags), total, policy.label)
        for j, lag in enumerate(lags):
            found.answers[policy, lag] = yield from last(answered(reader, cells[lag], stored), Answers, i * len(lags) + j, total, policy.label)
        yield view(found)
    yield view(found)


def asked_for(settings: MemoryPolicies, most: int) -> list[Policy]:
    """Raises `BadInput` on sizes or widths that nothing can have."""
    sizes, widths = numbers(settings.sizes, "sizes", low=2), numbers(settings.widths, "widths", low=1)
    if widths[-1] > 8:
        raise BadInput(f"{widths[-1]} bits are more than a code has", "codes have 1 to 8 bits", "Leave it out: full keeps all bits", setting="widths")
    if settings.sinks >= sizes[0]:
        raise BadInput(f"{settings.sinks} sinks do not fit into {sizes[0]} tokens", "the window needs one token at least", "Keep more, or fewer sinks",
                       setting="sinks")
    step = settings.step
    kept = [Policy(name, n, settings.sinks, step=step) for name in (WINDOW, SINKS, HEAVY) for n in sizes if n < most]
    return [Policy(FULL), *kept, *(Policy(QUANTIZED, bits=b, step=step) for b in reversed(widths)), Policy(DECOUPLED), Policy(ISOLATED)]


def view(found: Found) -> Event:
    show = found.settings.show
    facts = (f"{found.name} · {found.settings.material}, {found.settings.load} stored, {', '.join(map(str, found.lags))} tokens back, "
             f"{found.settings.repeats} texts each", *(f"not {name}: {why}" for name, why in found.refused.items()))
    if show == "table":
        return table(found, facts)
    if show == "distance":
        return curves(found, facts)
    measure, unit = ("cued", "cued fidelity, bits") if show == "fidelity" else ("recall", "share recalled")
    done = list(found.bytes)
    value = np.array([found.all_of(p, measure).mean() for p in done])
    return Scatter("Memory kept against what is remembered", tuple(p.label for p in done), np.array([found.bytes[p] / 1024 for p in done]), value,
                   f"KiB kept of a text of {found.length} tokens", unit, False, found.settings.direction, facts)


def curves(found: Found, facts: tuple[str, ...]) -> Curves:
    done = list(found.bytes)
    nothing = (np.nan, np.nan)
    both = np.array([[mean_and_error(found.answers[p, lag].cued) if (p, lag) in found.answers else nothing for lag in found.lags] for p in done])
    both = both.reshape(len(done), len(found.lags), 2)
    return Curves("Cued fidelity of memory policies", tuple(p.label for p in done), np.array(found.lags, float), "tokens between statement and cue",
                  both[..., 0], both[..., 1], "Jensen-Shannon divergence, bits, 0 to 1", found.settings.direction, facts)


def table(found: Found, facts: tuple[str, ...]) -> Table:
    rows: list[tuple[str | float | None, ...]] = []
    for policy in found.bytes:
        cells = [float(x) for m in ("cued", "recall", "margin") for x in mean_and_error(found.all_of(policy, m))]
        rows.append((policy.label, found.bytes[policy] / 1024, *cells))
    return Table("Memory policies", ("policy", "KiB", "fidelity", "± fidelity", "recall", "± recall", "margin", "± margin"),
                 ("what is kept", f"of a text of {found.length} tokens, in all layers", "Jensen-Shannon divergence of the answer, bits, 0 to 1, higher: "
                  "more is held",
                  "its standard error over texts", "share whose answer is the likeliest of all values in stock", "its standard error",
                  "nats over the swapped value, higher: surer", "its standard error"), tuple(rows), facts)
