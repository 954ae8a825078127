"""What a memory costs, and what it still knows: fidelity and recall of every policy against the bytes that it keeps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.events import Event
from lab.experiment import Experiment, setting
from lab.recall._settings import MATERIALS, POLICY_PAPERS

if TYPE_CHECKING:
    from lab.data import Data
    from models.model import Model


@dataclass(frozen=True, kw_only=True)
class MemoryPolicies(Experiment):
    """Every policy reads the same texts: at every distance, one of several statements is asked for, and its value swapped. Fidelity is the Jensen-Shannon
    divergence of the answer, in bits; recall whether it is the likeliest of all values in stock; both the mean over distances and texts. Memory is what one
    text leaves behind at the longest distance: keys and values in all layers, quantized ones as they pack, with their scales, and the sums that heavy
    hitters need. Only layers that see the whole text have something to leave out. Policies that the model cannot have are named.
    Sink + window counts positions within the memory where the model has rotary ones, else in the text.
    """

    title = "Memory kept against what is remembered"
    paper = POLICY_PAPERS
    direction = "higher: more is remembered; further left: with less memory"
    show: str = setting("fidelity", "The figure: fidelity or recall against memory, fidelity over distance, or all as a table",
                        choices=("fidelity", "recall", "distance", "table"))
    material: str = setting("places", "What is stored", choices=MATERIALS)
    load: int = setting(2, "Statements in the text, one of which is asked for", low=1, high=100)
    lags: str = setting("auto", "Tokens between a statement and its cue; auto doubles them up to what the model has positions for")
    sizes: str = setting("32, 96", "Tokens that window, sink + window and heavy hitters keep")
    sinks: int = setting(4, "First tokens that sink + window keeps", low=0, high=1024)
    widths: str = setting("4, 2", "Bits of quantized keys and values")
    step: int = setting(8, "Tokens that are read between two evictions; the papers' is 1, which takes longest", low=1, high=4096)
    repeats: int = setting(6, "Texts of every distance", low=2, high=1000)
    longest: int = setting(512, "Tokens of a text at most, for models that read more than anyone will wait for", low=16, high=10**6)

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.recall._compared import policies

        yield from policies(self, model)
