"""What comes after the blocks of a net (the last norm and the head), on any hidden state; and the answer that a run asks about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lab.trace._ask import answered
from lab.trace._prompt import Prompt, read_prompt
from models.model import Model, blocks


def asked(model: Model, text: str, answer: str) -> Prompt:
    """The prompt with its answer; where that is empty, the word that the model itself finds most likely. Raises `BadInput` as `read_prompt`."""
    return answered(model, read_prompt(model, text, text, answer))  # nothing is corrupted here, so all of the text is the subject


@dataclass
class Tail:
    """A private net whose blocks have run once, on `ids` (1, tokens); from then on they do nothing but hand over a state from outside.

    So what a net does after its blocks (norm, projection, scale, soft cap, head) is done by the net itself, and no architecture has a name here.
    """

    net: nn.Module
    ids: Tensor

    def __post_init__(self) -> None:
        self.outputs: list[Any] = []  # what each block returned
        handles = [block.register_forward_hook(lambda _, args, output: self.outputs.append(output)) for block in blocks(self.net)]
        with torch.no_grad():
            self.clean = self._run()
        for handle in handles:
            handle.remove()
        self.states = [o[0] if isinstance(o, tuple) else o for o in self.outputs]
        self.state = self.states[-1]
        for block, output in zip(blocks(self.net), self.outputs, strict=True):
            block.forward = self._stand_in(output)

    def _stand_in(self, output: Any) -> Callable[..., Any]:
        """A block's `forward` that returns `state` in the way in which the block returned `output`."""
        return lambda *args, **kwargs: (self.state, *output[1:]) if isinstance(output, tuple) else self.state

    @torch.no_grad()
    def log_probs(self, layer: int) -> Float[Tensor, "tokens vocabulary"]:
        """What the net would say at every token if its last block had returned what block `layer` did: log-probabilities, float32."""
        self.state = self.states[layer]
        return self._run()

    def _run(self) -> Float[Tensor, "tokens vocabulary"]:
        net: Any = self.net
        return net(input_ids=self.ids, use_cache=False).logits[0].float().log_softmax(-1)
