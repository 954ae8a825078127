"""Whether repetition did what the paper says, judged from the grid by a rule that was written down before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lab.attention._repeat_grid import arms, deviation, values

CLEAR = 3.0  # seed spreads that a difference has to have
RISEN = 0.02  # nats that a loss has to rise, in every run of an arm, and more than in any run of the control


@dataclass(frozen=True)
class Peak:
    """Where `name` ("held" or "copy") is worst among the pools of a share, against the same unique documents without repeats.

    `cost` is the mean over seeds of the difference from that control, seed by seed, `cost_error` its standard deviation; `spread` the larger of the
    standard deviations over seeds of the two; `times` the one over the other. `between` says whether fewer and more repetitions than those of the peak
    are both better, by how much in `less` and `more` (nats, NaN where there is no such pool).
    """

    arm: str
    reads: float
    seeds: int
    cost: float
    cost_error: float
    spread: float
    less: float
    more: float

    @property
    def times(self) -> float:
        return self.cost / self.spread if self.spread else float("nan")

    @property
    def between(self) -> bool:
        return self.less > 0 and self.more > 0

    @property
    def reproduces(self) -> bool:
        return self.between and self.times > CLEAR


def peak(found: Mapping[str, Any], share: float, name: str) -> Peak | None:
    """None without the control or without a pool."""
    groups = arms(found, share)
    control = groups.pop("unique only", {})
    pools = {arm: g for arm, g in groups.items() if arm != "all unique"}
    if not control or not pools:
        return None
    mean = {arm: float(values(g, name).mean()) for arm, g in pools.items()}
    worst = max(mean, key=mean.__getitem__)
    both = sorted(set(control) & set(pools[worst]))
    difference = np.array([pools[worst][s][name] - control[s][name] for s in both])
    order = list(pools)  # from few repetitions to many
    at = order.index(worst)
    less, more = (mean[worst] - max((mean[a] for a in side), default=float("nan")) for side in (order[:at], order[at + 1 :]))
    return Peak(worst, next(iter(pools[worst].values()))["reads"], len(both), float(difference.mean()) if both else float("nan"), deviation(difference),
                max(deviation(values(control, name)), deviation(values(pools[worst], name))), less, more)


def verdict(found: Mapping[str, Any], share: float) -> tuple[str, ...]:
    """Short sentences, with every figure that they rest on."""
    held, copy = peak(found, share, "held"), peak(found, share, "copy")
    if held is None or copy is None:
        return (f"{share:.0%} repeats: the grid holds no control with a pool beside it yet",)
    groups = arms(found, share)
    rises, others = values(groups[held.arm], "rise"), values(groups["unique only"], "rise")
    midway = "does not reproduce" if rises.min() <= RISEN else "reproduces" if rises.min() > others.max() else "is no more than without repeats"
    same = ("reproduces" if copy.times > CLEAR else "within the noise") if copy.arm == held.arm else "not where held-out loss is worst"
    return (
        f"held-out loss is worst with {held.arm} ({held.reads:,.3g} reads of each): {against(held, 3)}",
        f"{side(held)}: a peak at intermediate repetition {'reproduces' if held.reproduces else 'does not reproduce'}",
        f"copy loss is worst with {copy.arm}: {against(copy, 4)}: {same}",
        f"on its way held-out loss rose by {rises.min():.3f} to {rises.max():.3f} nats with {held.arm}, by up to {others.max():.3f} in the control: a rise "
        f"midway {midway}")


def against(found: Peak, places: int) -> str:
    """What it costs against the control, in nats and in spreads of the seeds."""
    if found.seeds < 2:
        return f"{found.cost:+.{places}f} nats over the control, of one seed, whose spread nobody knows"
    return f"{found.cost:+.{places}f} ± {found.cost_error:.{places}f} nats over the control, {found.times:.1f} times the spread of {found.seeds} seeds"


def side(found: Peak) -> str:
    """In words, what fewer and more repetitions are."""
    parts = [f"{value:.3f} better with {name}" for value, name in ((found.less, "fewer reads"), (found.more, "more")) if not np.isnan(value)]
    return " and ".join(parts) if parts else "no other pool was run"
