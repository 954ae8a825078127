"""What all experiments on a model's context ask alike: which keys and values it may keep, and what is stored. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from lab.experiment import Experiment, setting

FULL, WINDOW, SINKS, HEAVY, QUANTIZED = "full", "window", "sink + window", "heavy hitters", "quantized"
DECOUPLED, ISOLATED = "decoupled positions", "isolated positions"
POLICIES = (FULL, WINDOW, SINKS, HEAVY, QUANTIZED, DECOUPLED, ISOLATED)
EVICTING = (WINDOW, SINKS, HEAVY)
PLACES, BELONGINGS, CODES, TOKENS = "places", "belongings", "codes", "tokens"
MATERIALS = (PLACES, BELONGINGS, CODES, TOKENS)  # what is stored in a text, and asked for
GAP = 10_000  # from where the answer's own positions count when they are isolated
POLICY_PAPERS = ("policies: Xiao et al. 2023, arXiv 2309.17453, and JanusVLN, arXiv 2509.22548 (sink + window); "
                 "Zhang et al. 2023, arXiv 2306.14048 (heavy hitters); Liu et al. 2024, arXiv 2402.02750 (quantized); "
                 "Speak While Watching, arXiv 2601.06843 (positions)")


@dataclass(frozen=True, kw_only=True)
class Recall(Experiment):
    """What the model keeps of the text that it reads, in the layers that see all of it; layers with a window of their own keep that.

    Full: all keys and values. Window: those of the last `kept` tokens. Sink + window: of the first `sinks` and the latest others, `kept` together.
    Heavy hitters: half of `kept` are the latest tokens, half those that were attended to most, summed over all queries, head by head. Quantized: all, at
    `bits` bits a number: keys by channel and values by token, in groups of 16 tokens; the latest tokens stay as they are. Decoupled positions: all is
    kept, and the question's positions begin again at 0; isolated: they begin at 10,000. A model without attention knows only full.
    """

    policy: str = setting(FULL, "What is kept of the keys and values", choices=POLICIES)
    kept: int = setting(32, "With a window, sinks or heavy hitters: how many tokens are kept in all", low=2, high=10**6)
    sinks: int = setting(4, "With sink + window: how many of them are the first tokens of the text", low=0, high=1024)
    bits: int = setting(4, "With quantized: bits a number", low=1, high=8)
    step: int = setting(8, "Tokens that are read between two evictions; the papers' is 1, which takes longest", low=1, high=4096)
    renumber: bool = setting(True, "With sink + window: whether positions are counted within the memory, as in StreamingLLM, or in the text; only models with "
                             "rotary positions can be renumbered")
