"""What the full model loses when it reads on from the states of another: patching, layer by layer, where the answer is predicted."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from lab.memorization._rows import Row
from lab.ruler._answers import batches, forward
from lab.trace._sites import with_state
from models.model import Model, blocks


class Patched:
    """A private net whose block `layer` can be given other states at some places; the states that its blocks gave last are `states`."""

    def __init__(self, model: Model) -> None:
        self.net = model.skeleton()
        self.states: list[Tensor] = []
        self.layer, self.value, self.places = -1, torch.zeros(0), torch.zeros(0, dtype=torch.bool)
        for i, block in enumerate(blocks(self.net)):
            block.register_forward_hook(self._pass(i))

    def _pass(self, layer: int) -> Any:
        def hook(_: nn.Module, args: Any, output: Any) -> Any:
            state = output[0] if isinstance(output, tuple) else output
            if layer == self.layer:
                output = with_state(output, state := torch.where(self.places[..., None], self.value.to(state), state))
            self.states.append(state)
            return output
        return hook

    def run(self, rows: Sequence[Row], layer: int = -1, value: Tensor | None = None, places: Tensor | None = None) -> Float[Tensor, " rows"]:
        """Mean log-probability of the tokens of each answer, in nats; with `layer`, after `value` was put into its output at `places`."""
        self.states, self.layer = [], layer
        if value is not None and places is not None:
            self.value, self.places = value, places
        log_probs = forward(self.net, [r.ids for r in rows]).float().log_softmax(-1).cpu()
        return torch.stack([log_probs[i, r.start - 1 : len(r.ids) - 1].gather(1, torch.tensor(r.answer)[:, None]).mean() for i, r in enumerate(rows)])


def drops(source: Model, full: Model, rows: Sequence[Row]) -> Generator[None, None, Float[np.ndarray, "rows layers"]]:
    """By how much the mean log-probability of each answer falls in `full` when the output of a layer is that of `source` at the tokens from which the
    answer is predicted; nats, higher: the source lacks more of it there. Both are of one architecture and tokenizer. Yields between passes."""
    ours, theirs = Patched(full), Patched(source)
    found = np.zeros((len(rows), len(blocks(full.net))))
    for index in batches(full.net, rows):
        mine = [rows[i] for i in index]
        width = max(len(r.ids) for r in mine)
        places = torch.tensor([[r.start - 1 <= t < len(r.ids) - 1 for t in range(width)] for r in mine], device=full.device)
        theirs.run(mine)
        states = theirs.states
        yield
        whole = ours.run(mine)
        for layer, value in enumerate(states):
            found[index, layer] = (whole - ours.run(mine, layer, value.to(full.device), places)).numpy()
            yield
    return found
