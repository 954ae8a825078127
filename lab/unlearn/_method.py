"""What a method is to the loop: terms of a loss, and what they cost."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field

from torch import Tensor, nn

from lab.data import Data
from lab.events import Event
from lab.unlearn._sets import Batch, Sets
from models.model import Model


@dataclass
class Terms:
    """`total` is minimised. `extras` are further numbers of this step, drawn in charts of their own: (group, name, better) -> value."""

    total: Tensor
    extras: dict[tuple[str, str, str], float] = field(default_factory=dict)


class Method:
    """`forwards` and `backwards` of a batch that a step takes; `retains` where it cannot do without a retain set."""

    forwards: float = 1
    backwards: float = 1
    retains: bool = False

    def prepare(self, model: Model, data: Data, sets: Sets) -> Generator[Event, None, None]:
        """What is done once, before the first step. `model` is what the run starts from, and stays as it is."""
        yield from ()

    def trained(self, model: Model) -> set[str] | None:
        """The names of the parameters that are trained; None for all."""
        return None

    def facts(self) -> tuple[str, ...]:
        """Lines that stand over the curves."""
        return ()

    def terms(self, net: nn.Module, forget: Batch, retain: Batch | None) -> Terms:
        raise NotImplementedError
