"""The scores: what each is called, what it says, and how it comes from the profile of a model and those of the oracles."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lab.ruler import _formulas as formulas
from lab.ruler._answers import divergence
from lab.ruler._profile import Profile

Score = Callable[[Profile, Sequence[Profile]], float]  # of a model, and the oracles that it is held against: never itself
MOST = 100.0  # KLoM of an item, at most
ATTACKS = (("loss", "loss", -1), ("zlib", "loss / zlib", -1), ("min-k", "min-k %", 1), ("min-k++", "min-k++ %", 1))


@dataclass(frozen=True)
class Metric:
    """`about` is one sentence with its range and what a higher value means. `score` gives NaN where the metric cannot be had."""

    group: str
    name: str
    about: str
    score: Score


def metrics(oracles: Sequence[Profile]) -> list[Metric]:
    """Every score, group by group; forget quality once for each oracle."""
    return [*forgetting(), *keeping(), *privacy(), *utility(), *(quality(o) for o in oracles), *distance(oracles)]


def forgetting() -> list[Metric]:
    g = "forget"
    return [
        Metric(g, "accuracy", "Share of forget answers that greedy decoding gives whole, 0 to 1; higher: more is recited. (Carlini et al. 2023)",
               mean("forget", "recall")),
        Metric(g, "accuracy in other words", "The same after phrasings that were never trained, 0 to 1; higher: more is known.",
               mean("forget", "recall in other words")),
        Metric(g, "probability", "Mean over answers of exp(-nats a token), 0 to 1; higher: better known. (Maini et al. 2024)", mean("forget", "probability")),
        Metric(g, "extraction strength", "Mean of 1 - k/T, k the tokens of the answer that must be given before the rest is recited, 0 to 1; higher: "
               "extracted from less. (Carlini et al. 2021)", mean("forget", "extraction strength")),
        Metric(g, "exact memorization", "Mean share of answer tokens that are the likeliest after the true ones before them, 0 to 1; higher: more "
               "memorized. (Tirumala et al. 2022)", mean("forget", "exact memorization")),
        Metric(g, "ROUGE-L", "Mean overlap in words of what is said with the answer, 0 to 1; higher: more is said. (Lin 2004)", mean("forget", "ROUGE-L")),
        Metric(g, "truth ratio", "Mean of min(tr, 1/tr), tr = P(wrong)/P(true in other words), 0 to 1; higher: the truth stands out less. "
               "(Maini et al. 2024)", lambda p, _: some(formulas.forget_truth, p.get("forget", "truth ratio"))),
        Metric(g, "exposure", "Mean bits by which a code of four digits stands above all others, 0 to 13.3; higher: more memorized. (Carlini et al. 2019)",
               mean("forget", "exposure")),
    ]


def keeping() -> list[Metric]:
    g = "retain"
    return [
        Metric(g, "accuracy", "Share of retain answers that greedy decoding gives whole, 0 to 1; higher: more is kept.", mean("retain", "recall")),
        Metric(g, "accuracy in other words", "The same after phrasings that were never trained, 0 to 1; higher: more is kept.",
               mean("retain", "recall in other words")),
        Metric(g, "probability", "Mean over answers of exp(-nats a token), 0 to 1; higher: better kept.", mean("retain", "probability")),
        Metric(g, "ROUGE-L", "Mean overlap in words of what is said with the answer, 0 to 1; higher: more is kept.", mean("retain", "ROUGE-L")),
        Metric(g, "truth ratio", "Mean of max(0, 1 - tr), 0 to 1; higher: the truth stands out from wrong answers. (Maini et al. 2024)",
               lambda p, _: some(formulas.retain_truth, p.get("retain", "truth ratio"))),
    ]


def privacy() -> list[Metric]:
    g = "privacy"
    return [
        *[Metric(g, f"membership AUC, {name}", f"Chance that the {measure} tells a forget item from one that nobody trained, 0 to 1; higher: members show. "
                 "Aim for the oracles, not for 0.5.", attack(measure, sign)) for name, measure, sign in ATTACKS],
        Metric(g, "PrivLeak", "(a - a of the oracles) / a of the oracles x 100, a = 1 - AUC of min-k 40 %: per cent; 0: leaks like an oracle, below 0: "
               "members still show, above 0: they are hidden too well. (Shi et al. 2024)", leak),
    ]


def utility() -> list[Metric]:
    g = "utility"
    return [
        Metric(g, "model utility", "Harmonic mean of probability, ROUGE-L and truth ratio over retain and facts of the world, as far as they are had, 0 to 1; "
               "higher: more use. (Maini et al. 2024)", useful),
        Metric(g, "accuracy, facts of the world", "Share of their answers that greedy decoding gives whole, 0 to 1; higher: more is kept.",
               mean("world", "recall")),
        Metric(g, "loss, general text", "Nats a token of text that was never trained, 0 and up; lower is better.", mean("general", "loss")),
    ]


def quality(oracle: Profile) -> Metric:
    name = oracle.model.name

    def score(p: Profile, _: Sequence[Profile]) -> float:
        mine, its = (x.get("forget", "truth ratio") for x in (p, oracle))
        return formulas.forget_quality(mine, its) if len(mine) and len(its) else math.nan

    return Metric("distance to the oracle", f"forget quality, {name}", f"p-value that the truth ratios of the forget set come from the distribution of those "
                  f"of {name} (Kolmogorov-Smirnov), 0 to 1; higher: cannot be told apart; above .05 is said to pass. (Maini et al. 2024)", score)


def distance(oracles: Sequence[Profile]) -> list[Metric]:
    g = "distance to the oracle"
    return [
        *[Metric(g, f"KL, {part}", f"Nats a token of KL(oracle || model) on {part} answers, mean over the (other) oracles, 0 and up; lower is nearer.",
                 divergent(part)) for part in ("forget", "retain", "holdout")],
        Metric(g, "unlearning depth", "UDS: how much of what the full model loses with an oracle's states, layer by layer, it loses with this model's, mean "
               "over forget answers and the (other) oracles, 0 to 1; higher: erased deeper. (Lee et al. 2026)", deep),
        *[Metric(g, f"KLoM, {part}", f"KL of the margins of {part} answers between the model and the (other) oracles, each taken as normal with the variance "
                 "that the oracles have among themselves; 1: as far as oracles from each other, 0: the same, up to 100. (After Georgiev et al. 2024)",
                 klom(part, oracles)) for part in ("forget", "retain")],
    ]


def mean(part: str, measure: str) -> Score:
    return lambda p, _: some(np.mean, p.get(part, measure))


def some(formula: Callable[[np.ndarray], float], values: np.ndarray) -> float:
    return float(formula(values)) if len(values) else math.nan


def membership(p: Profile, measure: str, sign: int) -> float:
    inside, outside = p.get("forget", measure), p.get("holdout", measure)
    return formulas.auc(sign * inside, sign * outside) if len(inside) and len(outside) else math.nan


def attack(measure: str, sign: int) -> Score:
    return lambda p, _: membership(p, measure, sign)


def leak(p: Profile, oracles: Sequence[Profile]) -> float:
    reference = np.mean([membership(o, "min-k 40 %", 1) for o in oracles]) if oracles else math.nan
    return formulas.privleak(membership(p, "min-k 40 %", 1), float(reference))


def useful(p: Profile, _: Sequence[Profile]) -> float:
    parts = [some(f, p.get(part, measure)) for part in ("retain", "world")
             for measure, f in (("probability", np.mean), ("ROUGE-L", np.mean), ("truth ratio", formulas.retain_truth))]
    had = [v for v in parts if not math.isnan(v)]
    return formulas.harmonic(had) if had else math.nan


def divergent(part: str) -> Score:
    def score(p: Profile, oracles: Sequence[Profile]) -> float:
        if part not in p.log_probs or not oracles or any(part not in o.log_probs for o in oracles):
            return math.nan
        return float(np.mean([divergence(o.log_probs[part], p.log_probs[part]).mean() for o in oracles]))

    return score


def deep(p: Profile, oracles: Sequence[Profile]) -> float:
    if p.drops is None or not oracles or any(o.drops is None for o in oracles):
        return math.nan
    found = np.concatenate([formulas.depth(o.drops, p.drops) for o in oracles if o.drops is not None])
    return float(np.nanmean(found)) if not np.isnan(found).all() else math.nan


def klom(part: str, everyone: Sequence[Profile]) -> Score:
    """KL between normals of one variance s: (m - mu)^2 / 2s, where m and mu are margins of one item. s is the variance of that margin between
    oracles, pooled over the items, since two oracles say little about a single one; so it takes at least two of them."""
    def score(p: Profile, oracles: Sequence[Profile]) -> float:
        mine, pool = p.get(part, "margin"), [o.get(part, "margin") for o in everyone]
        if len(pool) < 2 or any(not len(m) for m in (mine, *pool)):
            return math.nan
        spread = float(np.var(pool, axis=0, ddof=1).mean())
        return float(np.mean([np.minimum((mine - o.get(part, "margin")) ** 2 / (2 * spread), MOST) for o in oracles]))

    return score
