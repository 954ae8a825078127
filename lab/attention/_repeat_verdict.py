"""Whether repetition did what the paper says, judged from the grid by a rule that was written down before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lab.attention._repeat_grid import arms, deviation, values

CLEAR = 3.0  # seed spreads that a difference has to have


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
    """Sentences, with every figure that they rest on."""
    held, copy = peak(found, share, "held"), peak(found, share, "copy")
    if held is None or copy is None:
        return (f"{share:.0%} repeats: the grid holds no control with a pool beside it yet",)
    groups = arms(found, share)
    rise = {arm: values(groups[arm], "rise").max() for arm in (held.arm, "unique only")}
    said = "reproduces" if held.reproduces else "does not reproduce"
    lines = [
        f"{share:.0%} repeats: held-out loss is worst with {held.arm} ({held.reads:,.0f} reads): {held.cost:+.3f} ± {held.cost_error:.3f} nats over the "
        f"control, {held.times:.1f} times the seed spread; {side(held)}. A peak at intermediate repetition {said}",
        f"{share:.0%} repeats: copy loss is worst with {copy.arm}: {copy.cost:+.4f} nats over the control, {copy.times:.1f} times the seed spread; "
        + (f"at the same point: {'reproduces' if copy.times > CLEAR else 'within the noise'}" if copy.arm == held.arm else "not where held-out loss is worst"),
        f"{share:.0%} repeats: on its way held-out loss never rose by more than {rise[held.arm]:.3f} nats with {held.arm}, and by "
        f"{rise['unique only']:.3f} in the control ({held.seeds} seeds)"]
    return tuple(lines)


def side(found: Peak) -> str:
    """In words, what fewer and more repetitions are."""
    parts = [f"{value:.3f} better with {name}" for value, name in ((found.less, "fewer reads"), (found.more, "more reads")) if not np.isnan(value)]
    return " and ".join(parts) if parts else "no other pool was run"
