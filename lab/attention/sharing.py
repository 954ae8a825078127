"""Which heads of a layer hold the same keys or values, and what it costs when like ones share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.events import Event
from lab.experiment import Experiment, setting

if TYPE_CHECKING:
    from lab.data import Data
    from models.model import Model


@dataclass(frozen=True, kw_only=True)
class HeadSharing(Experiment):
    """Heads of keys, and apart from them heads of values, are compared within every layer, grouped, and each group fused into one head.

    Similarity is the cosine of two heads' weights or outputs, or linear CKA, which does not mind how a head's numbers are turned or scaled as a whole.
    Groups come from average linkage. Mean fusion gives every head of a group the mean of their weights. Least squares does so for keys, whose mean is the
    least-squares choice where nothing behind them can be changed; of values it keeps the directions that hold most of the group's outputs on the texts, and
    the matrix behind each head takes its own out of them: heads that are turned copies of each other then fuse at no cost.

    The cost is measured on the texts that are given: the mean loss of all their tokens, and the share of their answers that are still recited. A control
    draws the groups at random, of the same sizes. DHA goes on to train the fused model, which is not done here.
    """

    title = "Heads that can share keys and values"
    paper = "Chen et al. 2024, arXiv 2406.06567; mean fusion: Ainslie et al. 2023, arXiv 2305.13245; CKA: Kornblith et al. 2019, arXiv 1905.00414"
    direction = "similarity, higher: more alike; loss, higher: fusing costs more; recall, higher: more is kept"
    show: str = setting("cost", "The figure: what fusing costs, or how alike the heads are", choices=("cost", "similarity"))
    part: str = setting("keys", "Whose similarity is shown", choices=("keys", "values"))
    layer: int = setting(-1, "Which layer's similarity is shown; -1 shows all, one below the other", low=-1, high=199)
    of: str = setting("outputs", "What is compared: the weights, or what comes out on the texts", choices=("outputs", "weights"))
    by: str = setting("CKA", "How alike two heads are", choices=("CKA", "cosine"))
    fusion: str = setting("least squares", "How a group becomes one head", choices=("mean", "least squares"))
    budget: str = setting("equal", "How many heads a layer keeps: equally many, or fewer where heads are more alike", choices=("equal", "by similarity"))
    measure: str = setting("loss", "What is drawn over the heads that are kept", choices=("loss", "recall"))
    items: str = setting("sample", "On what: sample (facts that an organism has read), names, splits such as retain author, or rows: JSONL with prompt and "
                         "answer, a CSV, or texts", lines=3)
    most: int = setting(48, "How many texts at most, drawn by seed", low=1, high=1000)

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.attention._share_run import run

        yield from run(self, model, data)
