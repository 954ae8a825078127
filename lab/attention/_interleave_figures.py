"""What `python -m bench.interleave --write` measured of the two-modality nets, as it stands beside the weights."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np

import models
from models.errors import LabError

FILE = Path(models.__file__).parent / "weights" / "interleave" / "figures.json"
NAMES = {"alone": "one task alone", "none": "both tasks", "single": "both, AIA to one task's", "random": "both, AIA to random",
         "shuffled": "both, AIA to shuffled"}
ABOUT = {
    "alone": "a net that learned this task only",
    "none": "a net of both tasks, without the term",
    "single": "with the term, to the intensities of the nets of one task of its seed",
    "random": "the control: targets drawn at random from the range of these",
    "shuffled": "the control: these targets in another order of layers",
}


@functools.lru_cache(maxsize=1)
def figures() -> dict[str, Any]:
    """Every list "of seeds" is in the order of `seeds`.

    seeds · layers · recipe · counts: split -> pictures · seconds: net -> of seeds · intensity, targets: net -> task -> of seeds -> layers ·
    scores: net -> split -> score -> of seeds · about: score -> words · further: task -> way -> figure -> of seeds ·
    gradients: net -> of seeds -> {cosine, below zero: layers}. Nets are those of `NAMES`.
    """
    if not FILE.is_file():
        raise LabError("the figures of the two-modality nets are missing", "they are made once, and kept beside the weights",
                       "Run python -m bench.interleave and python -m bench.interleave --write")
    return json.loads(FILE.read_text(encoding="utf-8"))


def intensities(net: str, task: str) -> np.ndarray:
    """(seeds, layers)."""
    return np.array(figures()["intensity"][net][task], float)


def better(words: str) -> int:
    """1 where a higher score is better, -1 where a lower one is, as its explanation says."""
    return -1 if "lower is better" in words else 1


def gain(net: str, split: str, score: str) -> np.ndarray:
    """(seeds,): what `net` gains in a score on the net of both tasks of the same seed, so that the luck of a seed cancels; above 0 it is better."""
    all_ = figures()["scores"]
    return better(figures()["about"][score]) * (np.array(all_[net][split][score]) - np.array(all_["none"][split][score]))


def spread(values: np.ndarray, axis: int = 0) -> Any:
    """Standard deviation over seeds, of the sample; NaN for one seed."""
    return values.std(axis, ddof=1) if values.shape[axis] > 1 else np.full(values.mean(axis).shape, np.nan)


def plus_minus(values: list[float] | np.ndarray, digits: int = 3) -> str:
    numbers = np.array(values, float)
    return f"{numbers.mean():.{digits}f} ± {spread(numbers):.{digits}f}" if len(numbers) > 1 else f"{numbers.mean():.{digits}f}"
