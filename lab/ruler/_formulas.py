"""The formulas of the scores, on plain numbers: each with its range and what a higher value means."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

LEAST = 0.05  # nats: in a layer where an oracle lacks less, nothing is to be erased


def forget_truth(ratios: np.ndarray) -> float:
    """Mean over items of min(tr, 1/tr), tr = P(wrong) / P(true in other words), 0 to 1. Higher: wrong answers are as likely as the right one.

    Maini et al. 2024, arXiv 2401.06121.
    """
    return float(np.mean(np.minimum(ratios, 1 / np.maximum(ratios, 1e-30))))


def retain_truth(ratios: np.ndarray) -> float:
    """Mean of max(0, 1 - tr), 0 to 1. Higher: the truth stands out from wrong answers."""
    return float(np.mean(np.maximum(0, 1 - ratios)))


def forget_quality(model: np.ndarray, oracle: np.ndarray) -> float:
    """p-value of the two-sided Kolmogorov-Smirnov test that the truth ratios of both come from one distribution, 0 to 1.

    Higher: they cannot be told apart; above .05 is said to pass. Maini et al. 2024, arXiv 2401.06121.
    """
    return float(stats.ks_2samp(model, oracle).pvalue)


def auc(inside: np.ndarray, outside: np.ndarray) -> float:
    """Chance that a score of `inside` is higher than one of `outside`, ties counting half: 0 to 1, .5 where they cannot be told apart."""
    both = stats.rankdata(np.concatenate([inside, outside]))
    n, m = len(inside), len(outside)
    return float((both[:n].sum() - n * (n + 1) / 2) / (n * m))


def privleak(auc_model: float, auc_oracle: float) -> float:
    """(a - a_ref) / a_ref * 100 with a = 1 - AUC, of the AUC of members over non-members. In percent, 0 where both leak alike; below 0 the model
    still shows the members, above 0 it shows them as all too unlikely. Shi et al. 2024, arXiv 2407.06460. NaN where the oracle's AUC is 1."""
    reference = 1 - auc_oracle
    return float("nan") if reference == 0 else (auc_oracle - auc_model) / reference * 100


def harmonic(values: Sequence[float]) -> float:
    """Harmonic mean: 0 where any value is 0. Values from 0; the result lies between the least and the largest."""
    return 0.0 if min(values) <= 0 else len(values) / sum(1 / v for v in values)


def depth(oracle: np.ndarray, model: np.ndarray, least: float = LEAST) -> np.ndarray:
    """(items,): the unlearning depth score, 0 (intact) to 1 (erased as in the oracle); NaN where no layer tells the oracle from the full model.

    `oracle` and `model` are (items, layers): what the full model's log-probability of the answer loses with the states of each (`lab.ruler._depth.drops`).
    Over the layers where the oracle costs more than `least` nats: the mean, weighted by the oracle's, of model / oracle, clipped to 0 to 1.
    Lee et al. 2026, arXiv 2605.24614.
    """
    counted = np.where(oracle > least, oracle, 0.0)
    share = np.clip(model / np.where(oracle > least, oracle, 1.0), 0.0, 1.0)
    total = counted.sum(1)
    return np.divide((counted * share).sum(1), total, out=np.full(len(oracle), np.nan), where=total > 0)
