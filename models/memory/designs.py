"""The memories that are grown, by name: how each is made, from which paper, and what it does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.errors import BadInput

if TYPE_CHECKING:
    from models.memory.mixer import Mixer
    from models.memory.net import Net, Reader

WINDOW, SINKS = 32, 4


@dataclass(frozen=True)
class Design:
    """`make` gives the mixer for a width. `base` names the memory whose grown net is kept frozen inside; such a design has no mixer of its own.
    A `control` is another design with one thing left out.
    """

    title: str
    paper: str
    about: str
    make: Callable[[int], Mixer] | None = None
    base: str = ""
    control: bool = False


def _attention(window: int | None = None, sinks: int = 0) -> Callable[[int], Mixer]:
    def make(dim: int) -> Mixer:
        from models.memory.attention import Attention

        return Attention(dim, window, sinks)
    return make


def _linear(*decays: float) -> Callable[[int], Mixer]:
    def make(dim: int) -> Mixer:
        from models.memory.linear import Linear

        return Linear(dim, decays)
    return make


def _delta(gated: bool) -> Callable[[int], Mixer]:
    def make(dim: int) -> Mixer:
        from models.memory.delta import Delta

        return Delta(dim, gated)
    return make


def _mamba2(dim: int) -> Mixer:
    from models.memory.mamba2 import Mamba2

    return Mamba2(dim)


def _memmamba(across: bool) -> Callable[[int], Mixer]:
    def make(dim: int) -> Mixer:
        from models.memory.memmamba import MemMamba

        return MemMamba(dim, across=across)
    return make


def _titans(momentum: bool = True, forget: bool = True) -> Callable[[int], Mixer]:
    def make(dim: int) -> Mixer:
        from models.memory.titans import Titans

        return Titans(dim, momentum, forget)
    return make


def _arranged(which: str) -> Callable[[int], Mixer]:
    def make(dim: int) -> Mixer:
        from models.memory import titans_arranged

        made: Mixer = getattr(titans_arranged, which)(dim)
        return made
    return make


def _mom(top: int) -> Callable[[int], Mixer]:
    def make(dim: int) -> Mixer:
        from models.memory.mom import MixtureOfMemories

        return MixtureOfMemories(dim, 4, top)
    return make


TITANS = "Behrouz et al. 2024, arXiv 2501.00663"
MOM = "Du et al. 2025, arXiv 2502.13685"
MEMMAMBA = "Wang et al. 2025, arXiv 2510.03279"

DESIGNS: dict[str, Design] = {
    "full": Design("Full attention", "Vaswani et al. 2017, arXiv 1706.03762", "keeps every token", _attention()),
    "window": Design("Sliding window", "Beltagy et al. 2020, arXiv 2004.05150", f"keeps the last {WINDOW} tokens", _attention(WINDOW)),
    "sinks": Design("Sinks and window", "Xiao et al. 2023, arXiv 2309.17453", f"keeps the first {SINKS} tokens and the last {WINDOW - SINKS}",
                    _attention(WINDOW - SINKS, SINKS)),
    "linear": Design("Linear attention", "Katharopoulos et al. 2020, arXiv 2006.16236", "adds everything to one matrix", _linear(1.0)),
    "decay": Design("Linear attention with decay", "Sun et al. 2023, arXiv 2307.08621", "adds everything to one matrix that fades",
                    _linear(1 - 2**-5, 1 - 2**-6)),
    "delta": Design("DeltaNet", "Yang et al. 2024, arXiv 2406.06484", "takes out what stood under a key before it writes", _delta(False)),
    "gated-delta": Design("Gated DeltaNet", "Yang et al. 2024, arXiv 2412.06464", "the delta rule, and a gate that lets the memory fade", _delta(True)),
    "mamba2": Design("Mamba-2", "Dao & Gu 2024, arXiv 2405.21060", "one gate a token both writes and forgets", _mamba2),
    "memmamba": Design("MemMamba", MEMMAMBA, "Mamba-2 with notes, its own and those of the layer below (our interpretation)", _memmamba(True)),
    "memmamba-own": Design("MemMamba, own notes only", MEMMAMBA, "the control without cross-layer attention", _memmamba(False), control=True),
    "titans": Design("Titans, memory alone", TITANS, "writes what surprises it, with momentum and forgetting", _titans()),
    "titans-no-momentum": Design("Titans without momentum", TITANS, "the control: no surprise of the past is written", _titans(momentum=False), control=True),
    "titans-no-forgetting": Design("Titans without forgetting", TITANS, "the control: nothing fades", _titans(forget=False), control=True),
    "titans-mac": Design("Titans, memory as context", TITANS, "attention over a segment and what the memory says to it", _arranged("MemoryAsContext")),
    "titans-mag": Design("Titans, memory as gate", TITANS, "window attention gates what the memory says", _arranged("MemoryAsGate")),
    "titans-mal": Design("Titans, memory as layer", TITANS, "window attention over what the memory says", _arranged("MemoryAsLayer")),
    "mom": Design("Mixture of Memories", MOM, "a router sends each token to two of four memories; one more takes everything", _mom(2)),
    "mom-dense": Design("Mixture of Memories, routing off", MOM, "the control: every memory takes every token", _mom(4), control=True),
    "longmem": Design("LongMem", "Wang et al. 2023, arXiv 2306.07174", "a side network finds the cached keys and values of a frozen window net", base="window"),
}


def design(name: str) -> Design:
    if name not in DESIGNS:
        raise BadInput(f"there is no memory {name!r}", cure=f"The memories are {', '.join(DESIGNS)}", setting="memory")
    return DESIGNS[name]


def build(name: str, seed: int, base: Net | None = None) -> Reader:
    """A net with this memory, its weights drawn from `seed` alone. A design with a base is built around the grown net `base`."""
    import torch

    from models.memory import tasks
    from models.memory.longmem import LongMem
    from models.memory.net import Net

    asked = design(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if asked.make is not None:
            return Net(asked.make, tasks.TOKENS)
        if base is None:
            raise BadInput(f"{name} is built around a grown net", f"its base is {asked.base}", f"Grow {asked.base} with the same seed first", setting="memory")
        return LongMem(base)
