"""What every head does on repeated random tokens, beside what the model loses without it."""

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
class HeadScores(Experiment):
    """Random tokens, repeated once: nothing but the repetition can be predicted. Every head's attention there is compared with what heads of a known
    kind do, and every head is ablated, for a score says what a head looks at, not what comes of it.

    A score is sum(A * D) / sum(A), A the head's pattern and D one where a head of this kind looks, 0 to 1. Previous token: the token before. Duplicate
    token: the same token, earlier. Induction: the token after the same token, earlier. Sink: the mean of what queries give to the first position. Copy:
    the share of tokens whose own logit, among those of all tokens of the sequence, is raised most when the head looks at them alone (in layer 0 that is
    the OV circuit of Elhage et al. 2021, there judged by its eigenvalues); what the head writes on average is taken off.

    The effect of ablation is the rise of the mean loss in nats a token: of the repeated half, from its second token on, or of answers. Mean ablation puts
    the head's mean output over the same texts in the place of its output at every token, zero ablation nothing.
    """

    title = "Heads: scores and what ablation costs"
    paper = "Olsson et al. 2022, arXiv 2209.11895; Elhage et al. 2021, transformer-circuits.pub; detector after TransformerLens, Nanda & Bloom 2022"
    direction = "score, higher: more like a head of this kind; effect, higher: the model loses more without this head"
    score: str = setting("induction", "Which kind of head is looked for", choices=("previous token", "duplicate token", "induction", "sink", "copy"))
    show: str = setting("score against effect", "The figure: the score or the effect of every head, one against the other, or all scores as a table",
                        choices=("score", "effect", "score against effect", "table"))
    ablation: str = setting("mean", "What stands in for a head's output: its mean over the texts, or zero", choices=("mean", "zero"))
    on: str = setting("repeated half", "Whose loss the ablation is measured on", choices=("repeated half", "answers"))
    items: str = setting("sample", "Answers of what: sample (facts that an organism has read), names, splits such as forget_10 author, or rows: JSONL with "
                         "prompt and answer, a CSV, or texts", lines=3)
    most: int = setting(32, "How many answers at most, drawn by seed", low=1, high=1000)
    length: int = setting(24, "Random tokens before they are repeated", low=2, high=1024)
    sequences: int = setting(8, "How many random sequences", low=1, high=256)
    queries: str = setting("repeated half", "Which tokens' attention is scored; TransformerLens takes all", choices=("repeated half", "all"))
    bos: bool = setting(True, "Whether attention to the start token counts as attention elsewhere; without, it is left out, as TransformerLens can")

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.attention._head_run import run

        yield from run(self, model, data)
