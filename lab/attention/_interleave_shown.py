"""The measured figures of the two-modality nets, as curves and tables. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from lab.attention._interleave_figures import ABOUT, NAMES, figures, gain, intensities, plus_minus, spread
from lab.events import Curves, Event, Progress, Table

if TYPE_CHECKING:
    from lab.attention.interleave import Interleave

OTHER = {"generation": "understanding", "understanding": "generation"}
READS = {"generation": "the caption", "understanding": "the picture"}


def shown(settings: Interleave) -> Iterator[Event]:
    yield Progress(0, 1, "reading what was measured")
    yield {"intensity": intensity, "scores": scores, "forgetting": forgetting, "gradients": gradients}[settings.show](settings)


def seeds() -> str:
    return f"{len(figures()['seeds'])} seeds"


def intensity(settings: Interleave) -> Event:
    task, direction = settings.task, settings.direction
    found = {net: intensities(net, task) for net in NAMES if net in figures()["intensity"]}
    aim = intensities("alone", task)
    apart = {net: [float(v) for v in np.abs(values - aim).mean(1)] for net, values in found.items() if net != "alone"}
    both = [float(np.corrcoef(a, b)[0, 1]) for a, b in zip(intensities("none", task), intensities("none", OTHER[task]), strict=True)]
    facts = (f"share of attention from where {task} writes its answer to {READS[task]}, over all trained pictures",
             f"the band is the standard deviation over {seeds()}; attention that is spread evenly has {figures()['even'][task]:.3f}",
             "mean distance to the nets of one task, seed by seed: " + "; ".join(f"{NAMES[n]} {plus_minus(v)}" for n, v in apart.items()),
             f"correlation over layers of both tasks' intensities, without the term: {plus_minus(both, 2)}; the paper finds it negative")
    return Curves(f"Attention to the other modality: {task}", tuple(NAMES[n] for n in found), np.arange(aim.shape[1], dtype=float), "layer",
                  np.stack([v.mean(0) for v in found.values()]), np.stack([spread(v) for v in found.values()]), "share of attention", direction, facts)


def scores(settings: Interleave) -> Event:
    """A row a score and split; the last columns hold the paired gains over the net of both tasks."""
    all_, about, counts = figures()["scores"], figures()["about"], figures()["counts"]
    nets = [n for n in NAMES if n in all_]
    gained = [n for n in ("single", "random") if n in nets]
    rows = [(score, f"{split} ({count})", *(plus_minus(all_[n][split][score]) for n in nets), *(plus_minus(gain(n, split, score)) for n in gained), words)
            for score, words in about.items() for split, count in counts.items()]
    columns = ("score", "pictures", *(NAMES[n] for n in nets), *(f"gain: {NAMES[n]}" for n in gained), "what it is")
    explained = ("its name", "train: seen in training; tone: hands in a tone of skin never seen with them; new: other pictures of known words",
                 *(ABOUT[n] for n in nets), *("what it gains on the net of both tasks of the same seed: above 0 it is better" for _ in gained),
                 "range and direction")
    return Table("Scores of the two-modality nets", columns, explained, tuple(rows),
                 (f"mean ± standard deviation over {seeds()}", *(verdict(n) for n in ("single", "random", "shuffled") if n in nets)))


def verdict(net: str) -> str:
    """In how many scores and splits `net` differs from the net of both tasks by more than the spread of that difference over seeds."""
    gains = [gain(net, split, score) for split in figures()["counts"] for score in figures()["about"]]
    up, down = (sum(bool(sign * g.mean() > spread(g)) for g in gains) for sign in (1, -1))
    return f"{NAMES[net]}: of {len(gains)} scores better in {up} and worse in {down} by more than the spread of the gain over seeds"


def forgetting(settings: Interleave) -> Event:
    """A row a way; what is forgotten is measured against the same net before."""
    task = settings.task
    further = figures()["further"][task]
    columns = ("trained further", "learned", "learned: loss", "intra-modal forgetting", "inter-modal forgetting", "intra-modal: accuracy lost",
               "inter-modal: accuracy lost")
    about = ("how: all weights, or low-rank adapters on the MLPs of the frozen net, shared by both modalities or one set for each (a mixture of experts for "
             "words); distilled: held to the old net's predictions in the other task; replayed: trained on the true answers there",
             f"accuracy in {task} of the pictures that it learned, after",
             "nats a token of these, after; lower is better", f"rise of the loss of {task} of the pictures that it knew, in nats a token; lower is better",
             f"rise of the loss of {OTHER[task]}, which it did not train, in nats a token; lower is better",
             "the same as a fall of accuracy, 0 to 1; lower is better", "the same as a fall of accuracy, 0 to 1; lower is better")
    before = {key: np.array(value) for key, value in further["before"].items()}
    rows = [("before", plus_minus(before["learned accuracy"]), plus_minus(before["learned nll"]), None, None, None, None)]
    for way, found in further.items():
        if way != "before":
            now = {key: np.array(value) for key, value in found.items()}
            rises = [plus_minus(now[f"{w} nll"] - before[f"{w} nll"]) for w in ("intra-modal", "inter-modal")]
            falls = [plus_minus(before[f"{w} accuracy"] - now[f"{w} accuracy"]) for w in ("intra-modal", "inter-modal")]
            rows.append((way, plus_minus(now["learned accuracy"]), plus_minus(now["learned nll"]), *rises, *falls))
    fresh = figures()["counts"]["tone"] + figures()["counts"]["new"]
    return Table(f"Trained further on {task} of {fresh} new pictures", columns, about, tuple(rows),
                 (f"mean ± standard deviation over {seeds()}; {figures()['tuning_steps']} steps each, on the net of both tasks without the term",
                  "compare rows that learned as well: who learns less forgets less"), "nothing is forgotten before it is trained further")


def gradients(settings: Interleave) -> Event:
    found = figures()["gradients"]
    cosine = {net: np.array([run["cosine"] for run in runs]) for net, runs in found.items()}
    below = {NAMES[net]: float(np.mean([run["below zero"] for run in runs])) for net, runs in found.items()}
    layers = next(iter(cosine.values())).shape[1]
    return Curves("Do the two tasks pull the weights apart?", tuple(NAMES[n] for n in cosine), np.arange(layers, dtype=float), "layer",
                  np.stack([v.mean(0) for v in cosine.values()]), np.stack([spread(v) for v in cosine.values()]), "cosine of the gradients",
                  "cosine, -1 to 1, of the gradients of both tasks' losses: below 0 a step for one undoes the other",
                  ("at the end of training, on trained pictures; the band is the standard deviation over " + seeds(),
                   "share of batches and layers below 0: " + "; ".join(f"{n} {v:.2f}" for n, v in below.items())))
