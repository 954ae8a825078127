"""How much of the answer is there: its probability, the logarithm of that, or how far its logit stands above another's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

KINDS = ("probability", "log probability", "logit difference")
SMALL = 1e-3  # a corruption that takes less than this leaves nothing to divide by


@dataclass(frozen=True)
class Score:
    """A score of the log-probabilities (rows, steps, vocabulary) at the steps of an answer; higher is more of the answer.

    "probability" is that of the whole answer, its tokens taken one after the other (0 to 1); "log probability" its natural logarithm;
    "logit difference" the logit of the answer less that of the foil at the first step where they differ.
    """

    kind: str
    answer: Tensor  # token ids (steps)
    foil: int = -1  # a token id
    step: int = 0  # where answer and foil part

    def __call__(self, log_probs: Float[Tensor, "rows steps vocabulary"]) -> Float[Tensor, " rows"]:
        if self.kind == "logit difference":
            at = log_probs[:, self.step]
            return at[:, self.answer[self.step]] - at[:, self.foil]
        steps = log_probs[:, : len(self.answer)]
        total = steps.gather(2, self.answer.expand(len(steps), -1).unsqueeze(2)).sum((1, 2))
        return total.exp() if self.kind == "probability" else total


def standard_error(values: np.ndarray) -> Any:
    """Of the mean over the first axis of `values` (runs, ...): standard deviation over the square root of their number; 0 for a single run, which no
    chance is in."""
    return values.std(0, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.zeros(values.shape[1:])[()]
