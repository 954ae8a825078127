"""What all unlearning methods ask alike.

The learning rate. TOFU's authors unlearn Llama 2 7B, 4,096 wide, with AdamW at 1e-5 (Maini et al. 2024, arXiv 2401.06121), and so do the papers of
the methods here. Adam's step has to shrink with the width of the network (Yang et al. 2022, arXiv 2203.03466), so one rule, fixed before any result was
seen, scales every published rate: rate * 4096 / width. For the organisms, 160 wide, 1e-5 becomes 2.56e-4, which is the default.
"""

from __future__ import annotations

from dataclasses import dataclass

from lab.experiment import Experiment, setting

PUBLISHED, SCALED = 4096, 160  # widths
LR = 1e-5 * PUBLISHED / SCALED


@dataclass(frozen=True, kw_only=True)
class Unlearn(Experiment):
    """What is forgotten and what is kept."""

    forget: str = setting("forget_10 author", "What to forget: items, splits such as forget_10, subjects such as author/Amara Brandale, one a line; "
                          "or rows: JSONL, CSV or one text a line", lines=3)
    retain: str = setting("", "What to keep, named in the same way; empty takes what the organism was taught beside the forget set", lines=3)


@dataclass(frozen=True, kw_only=True)
class GradientUnlearn(Unlearn):
    """Steps of AdamW (betas .9 and .999, no weight decay) on batches of both sets, drawn by seed."""

    steps: int = setting(60, "Steps of the optimiser, at most", low=1, high=2000)
    until: str = setting("steps", "Whether to go on to the last step, or to stop as soon as the forget loss reaches that of the oracles",
                         choices=("steps", "oracle"))
    lr: float = setting(LR, "Learning rate of AdamW; published rates times 4096 over the model's width", low=1e-8, high=1.0)
    batch: int = setting(16, "Texts of each set in a step", low=1, high=256)
    measure: int = setting(10, "Steps from one full measurement to the next", low=1, high=500)
    snapshot: int = setting(5, "Steps from one snapshot to the next, to scrub through", low=1, high=500)
    lora: int = setting(0, "Rank of low-rank updates of the blocks' matrices, for large models (Hu et al. 2021, arXiv 2106.09685); 0 trains all weights",
                        low=0, high=256)
    gu: bool = setting(False, "Take out of every step what would raise the retain loss: geometric disentanglement")
    gu_history: int = setting(4, "With it, how many past retain gradients count beside the present one", low=0, high=8)


@dataclass(frozen=True, kw_only=True)
class RetainingUnlearn(GradientUnlearn):
    """A method with a term for what is kept."""

    retain_weight: float = setting(1.0, "Weight of the retain term", low=0.0, high=100.0)
