"""Is it a fact that was forgotten, or the skill of reading one?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.events import Event
from lab.experiment import setting
from lab.recall._settings import POLICY_PAPERS, Recall

if TYPE_CHECKING:
    from lab.data import Data
    from models.model import Model


@dataclass(frozen=True, kw_only=True)
class ForgottenOrUnread(Recall):
    """Two models, such as one before and after unlearning, are asked for facts in three ways: closed book (the question alone), open book (the answer is told
    in the text before the question), and told otherwise (a wrong answer of the same kind is). Closed: nats by which the true answer beats the wrong one;
    it falls where the fact is forgotten. Fidelity: the Jensen-Shannon divergence of the next token between told the truth and told otherwise, in bits;
    margin: nats by which what was told beats what was not; both fall where the skill of reading is. A method that removes a fact and leaves reading alone
    lowers the first and keeps the others; the same figures for things that have nothing to do with it (general statements) stand beside.
    """

    title = "A forgotten fact, or a forgotten skill of reading"
    paper = ("open book against closed book: Merullo et al. 2025 (loss curvature), arXiv 2510.24256; divergence: Lin 1991, doi 10.1109/18.61115; "
             + POLICY_PAPERS)
    direction = "closed: higher, the fact is known; open and fidelity: higher, what is told is read"
    against: str = setting("", "What it is compared with: before (its last edit), original, or a model's name; empty: before, else an oracle")
    items: str = setting("forget_10", "The facts: items or splits of an organism, or JSONL rows with prompt and answer, whose wrong answers are those of "
                         "other rows", lines=3)
    show: str = setting("summary", "The figure: means of both models, every fact (margin told against closed), or all as a table",
                        choices=("summary", "facts", "table"))
    lag: int = setting(0, "Tokens of general text between what is told and the question", low=0, high=100_000)
    most: int = setting(24, "How many facts at most, drawn by seed", low=2, high=1000)

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.recall._forgotten import forgotten

        yield from forgotten(self, model, data)
