"""Attribution patching of queries, keys and values, as it stands and mended (AtP*), against the exact effects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.events import Event
from lab.experiment import setting
from lab.trace._fact import OneFact

if TYPE_CHECKING:
    from lab.data import Data
    from models.model import Model


@dataclass(frozen=True, kw_only=True)
class AttributionPatching(OneFact):
    """How far an approximation of every head's query, key or value at every token can be trusted.

    AtP: <clean - corrupted, gradient of the score>, mean over the noise samples: one pass forward and backward for all nodes. It fails where
    attention is saturated, and where two effects of one node cancel. AtP* mends both: for queries and keys the softmax is taken again with
    the clean value, and only its result is linearised (QK fix); and the backward pass is repeated with the part of each layer left out, of which the
    absolute values are averaged (GradDrop: sum over L passes over L - 1). The `top` nodes by the estimate that was chosen, and as many others,
    drawn by seed, as `others` says, are then run exactly. GradDrop has no sign, so it is compared with absolute effects.
    """

    title = "Attribution patching against exact effects"
    paper = "Kramár et al. 2024, arXiv 2403.00745"
    direction = "higher: restoring this node alone brings more of the answer's probability back"
    node: str = setting("query", "What is put back: at one token, of one head", choices=("query", "key", "value"))
    estimate: str = setting("AtP with QK fix", "Which estimate chooses the nodes to run, and stands on the horizontal axis",
                            choices=("AtP", "AtP with QK fix", "AtP*"))
    top: int = setting(40, "How many nodes are run exactly, the strongest by the estimate first", low=1, high=2000)
    others: int = setting(40, "How many of the remaining nodes are run too, drawn by seed: so that one sees what the estimate missed", low=0, high=2000)

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.trace._atp import compare

        yield from compare(self, model, data)
