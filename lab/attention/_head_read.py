"""Patterns and values of every head of any decoder that lets them be seen, batch after batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lab.trace._sites import HEAD, anatomy
from models.attention import PATTERN, VALUE, Watch
from models.errors import BadInput
from models.model import Model, blocks

CLOSE = 1e-2  # how far logits may lie from those of the untouched net, in standard deviations of them


@dataclass(frozen=True)
class Seen:
    """What one batch showed: layer -> (rows, heads, queries, keys) and, where values can be seen, layer -> (rows, key/value heads, tokens, size)."""

    patterns: dict[int, Tensor]
    values: dict[int, Tensor]


class Reader:
    """A private net whose attention can be read.

    Where the attention goes through the interface of transformers it is opened by a `Watch`; elsewhere the net is asked for its patterns. What is read
    counts only if the logits stay those of the model.
    """

    def __init__(self, model: Model) -> None:
        self.model, self.net, self.asks, self.checked = model, model.skeleton(), False, False
        self.layers = len(blocks(self.net))
        self.watch = Watch(self.net, frozenset({PATTERN, VALUE}))

    @torch.no_grad()
    def read(self, ids: Tensor) -> Seen:
        """Raises `BadInput` where no pattern can be seen."""
        found, logits = self._asked(ids) if self.asks else self._watched(ids)
        if not found.patterns and not self.asks:
            self.asks, self.net = True, self.model.skeleton()
            found, logits = self._asked(ids)
        if not self.checked:
            self._check(ids, found, logits)
        return found

    def _watched(self, ids: Tensor) -> tuple[Seen, Tensor]:
        self.watch.kept.clear()
        net: Any = self.net
        logits = net(input_ids=ids, use_cache=False).logits
        kept = self.watch.kept
        return Seen(*({layer: value for (p, layer), value in kept.items() if p == part} for part in (PATTERN, VALUE))), logits

    def _asked(self, ids: Tensor) -> tuple[Seen, Tensor]:
        net: Any = self.net
        try:
            out = net(input_ids=ids, use_cache=False, output_attentions=True)
        except (TypeError, ValueError) as error:
            raise self._closed() from error
        given = getattr(out, "attentions", None) or ()
        usable = len(given) == self.layers and all(torch.is_tensor(a) and a.dim() == 4 for a in given)
        return Seen(dict(enumerate(given)) if usable else {}, {}), out.logits

    def _check(self, ids: Tensor, found: Seen, logits: Float[Tensor, "rows tokens vocabulary"]) -> None:
        net: Any = self.model.net
        plain = net(input_ids=ids[:1], use_cache=False).logits
        if not found.patterns or (logits[:1] - plain).abs().max() > CLOSE * plain.std():
            raise self._closed()
        self.checked = True

    def _closed(self) -> BadInput:
        return BadInput(f"the attention of {type(self.net).__name__} cannot be seen", "its blocks mix tokens in another way, or do not say how",
                        "Choose another model", setting="model")


def outlets(net: nn.Module) -> list[nn.Module | None]:
    """For each block the matrix that heads go into; None where it has none."""
    config: Any = net.config
    width = config.get_text_config(decoder=True).hidden_size
    return [anatomy(block, width).get(HEAD) for block in blocks(net)]
