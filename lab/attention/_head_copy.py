"""Which token's logit a head raises when it looks at one token alone: its OV circuit, on what the stream holds there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lab.attention._head_read import Seen, outlets
from lab.attention._head_scores import copied
from lab.attention._head_texts import Texts
from lab.trace._sites import query_heads
from models.model import Model, blocks


class Reached(Exception):
    """Leaves a net as soon as it has made what goes into its unembedding."""


class Unembedding:
    """What a private net makes of a state of the stream after its last block, just before its unembedding, `head`."""

    def __init__(self, net: Any) -> None:
        self.net = net
        self.state, self.final = torch.zeros(0), torch.zeros(0)
        self.tuples: dict[int, bool] = {}
        self.head: Any = net.get_output_embeddings()
        if self.head is None:
            return
        for i, block in enumerate(blocks(net)):
            block.register_forward_hook(self._note(i))
        with torch.no_grad():
            self.net(input_ids=torch.zeros(1, 1, dtype=torch.long, device=self.head.weight.device), use_cache=False)
        for i, block in enumerate(blocks(net)):
            block.forward = self._stand_in(self.tuples[i])
        self.head.register_forward_pre_hook(self._leave)

    def _note(self, i: int) -> Any:
        def hook(_: nn.Module, args: Any, output: Any) -> None:
            self.tuples.setdefault(i, isinstance(output, tuple))
        return hook

    def _stand_in(self, tuples: bool) -> Any:
        return lambda *args, **kwargs: (self.state, None) if tuples else self.state

    def _leave(self, _: nn.Module, args: tuple) -> None:
        self.final = args[0]
        raise Reached

    def made_of(self, state: Float[Tensor, "rows tokens width"]) -> Float[Tensor, "rows tokens inner"]:
        """What goes into the unembedding when the last block gives `state`."""
        self.state = state
        try:
            self.net(input_ids=torch.zeros(state.shape[:2], dtype=torch.long, device=state.device), use_cache=False)
        except Reached:
            return self.final
        raise RuntimeError("the net did not use its unembedding")


@torch.no_grad()
def copy_scores(model: Model, texts: Texts, seen: list[Seen], length: int) -> Iterator[tuple[int, Float[Tensor, "rows heads"]]]:
    """(layer, the share of the random tokens that each head copies), layer by layer; nothing where values or the unembedding cannot be seen.

    For query head h and position s of the first half, u = W_O,h (v(s) - mean v) is what it writes when it looks at s alone, less what it writes on average;
    it goes through the last norm with the norm's scale held, and the logits of the sequence's own tokens are compared. A scale that is held is a positive
    factor and cannot change the order; so the norm is taken of u itself, brought to size 1. Norms behind the attention are left out.
    """
    net = model.skeleton()
    end, heads, places = Unembedding(net), query_heads(net), slice(texts.first, texts.first + length)
    if end.head is None:
        return
    ids = texts.ids[:, places]
    for layer, matrix in enumerate(outlets(net)):
        if matrix is None or any(layer not in s.values for s in seen):
            continue
        value = torch.cat([s.values[layer] for s in seen])
        value = value.repeat_interleave(heads // value.shape[1], 1)
        value = (value - value[:, :, texts.first :].mean((0, 2), keepdim=True))[:, :, places]
        found = [_copied(end, matrix, value[:, h], h, heads, ids) for h in range(heads)]
        yield layer, torch.stack(found, 1)


def _copied(end: Unembedding, matrix: nn.Module, value: Tensor, head: int, heads: int, ids: Tensor) -> Float[Tensor, " rows"]:
    """The score of one head in every row; `value` (rows, positions, size)."""
    rows, places, size = value.shape
    into = value.new_zeros(rows * places, heads * size)
    into[:, head * size : (head + 1) * size] = value.flatten(0, 1)
    nothing = torch.zeros_like(into[:1])
    written = (matrix(into) - matrix(nothing)).reshape(rows, places, -1)
    written = written / written.square().mean(-1, keepdim=True).sqrt().clamp(min=1e-20)
    final = end.made_of(written) - end.made_of(torch.zeros_like(written[:1, :1]))
    return copied(final @ end.head.weight[ids].transpose(1, 2))
