"""The terms of representation misdirection. Li et al. 2024, arXiv 2403.03218."""

from __future__ import annotations

from collections.abc import Generator

import torch
from torch import Tensor, nn

from lab.data import Data
from lab.events import Event
from lab.trace._sites import NEURON, anatomy
from lab.unlearn._method import Terms
from lab.unlearn._sets import Batch, Sets
from lab.unlearn._terms import Referred
from models.errors import BadInput
from models.model import Model, blocks

PUBLISHED, DEPTH, BELOW = 7, 32, 2  # the layer, of how many, and how many layers below it are trained too


class Misdirection(Referred):
    def __init__(self, weight: float, layer: int, coefficient: float, seed: int) -> None:
        super().__init__(weight)
        self.asked, self.coefficient, self.seed = layer, coefficient, seed

    def prepare(self, model: Model, data: Data, sets: Sets) -> Generator[Event, None, None]:
        depth = len(blocks(model.net))
        self.layer = min(depth - 1, max(BELOW, round(PUBLISHED * depth / DEPTH))) if self.asked < 0 else self.asked
        if self.layer >= depth:
            raise BadInput(f"there is no layer {self.layer}", f"the model has {depth}, from 0 to {depth - 1}", setting="layer")
        width = model.net.config.get_text_config(decoder=True).hidden_size  # type: ignore[union-attr,operator]
        direction = torch.randn(width, generator=torch.Generator().manual_seed(self.seed))
        self.target = (self.coefficient * direction / direction.norm()).to(model.device)
        self.reference = model.skeleton()  # to read its states, transformers hooks the net
        yield from ()

    def trained(self, model: Model) -> set[str] | None:
        stack = list(blocks(model.net))
        width = model.net.config.get_text_config(decoder=True).hidden_size  # type: ignore[union-attr,operator]
        ids = {id(p) for block in stack[max(0, self.layer - BELOW) : self.layer + 1] if (m := anatomy(block, width).get(NEURON)) is not None
               for p in m.parameters()}
        if not ids:
            raise BadInput(f"{type(model.net).__name__} has no single last matrix in its MLPs", "they are mixtures of experts", "Choose another method",
                           setting="layer")
        return {n for n, p in model.net.named_parameters() if id(p) in ids}

    def facts(self) -> tuple[str, ...]:
        return (f"states after layer {self.layer} are misdirected; MLPs of layers {max(0, self.layer - BELOW)}-{self.layer} are trained",)

    def states(self, net: nn.Module, texts: Batch) -> Tensor:
        """(tokens, width) after the layer, of all tokens that are no padding."""
        found = net(input_ids=texts.ids, attention_mask=texts.mask, use_cache=False, output_hidden_states=True).hidden_states[self.layer + 1]
        return found[texts.mask.bool()].float()

    def terms(self, net: nn.Module, forget: Batch, retain: Batch | None) -> Terms:
        assert retain is not None
        with torch.no_grad():
            before = self.states(self.reference, retain)
        gone = (self.states(net, forget) - self.target).square().mean()
        return Terms(gone + self.weight * (self.states(net, retain) - before).square().mean())
