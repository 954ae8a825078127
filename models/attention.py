"""Attention opened: queries, keys, values and the pattern of every layer of any model that lets its attention be chosen.

transformers calls attention by a name in a net's config. A private net gets the name of the function below, which computes attention step
by step and lets a `Watch` read, and change, what passes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, eager_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from models.model import blocks

NAME = "open_eager"
QUERY, KEY, VALUE, PATTERN = "query", "key", "value", "pattern"


@dataclass(frozen=True)
class HeadPut:
    """`value` (rows, size) stands in for what `rows` of a batch have at one head and token."""

    rows: slice
    head: int
    token: int
    value: Tensor


@dataclass(frozen=True)
class Call:
    """How a layer's attention was called: what turns queries and keys into its pattern."""

    mask: Tensor | None
    scaling: float
    softcap: float | None
    groups: int  # query heads that share keys and values

    def pattern(self, logits: Tensor) -> Tensor:
        """(rows, heads, queries, keys) from unscaled products of queries and keys."""
        logits = logits * self.scaling
        if self.softcap:
            logits = torch.tanh(logits / self.softcap) * self.softcap
        if self.mask is not None:
            logits = logits + self.mask[..., : logits.shape[-1]]
        return logits.softmax(-1, dtype=torch.float32).to(logits.dtype)


@dataclass
class Watch:
    """Reads the parts named in `keep` into `kept`: (part, layer) -> (rows, heads, tokens, size); patterns are (rows, heads, queries, keys).

    Values of `puts` take the place of queries, keys and values. It stays on `net`, a private copy, for good. `calls` is filled by every forward.
    """

    net: nn.Module
    keep: frozenset[str] = frozenset()
    kept: dict[tuple[str, int], Tensor] = field(default_factory=dict)
    puts: dict[tuple[str, int], list[HeadPut]] = field(default_factory=dict)
    calls: dict[int, Call] = field(default_factory=dict)

    def __post_init__(self) -> None:
        config: Any = self.net.config
        for one in {id(c): c for c in (config, config.get_text_config(decoder=True), *(getattr(m, "config", None) for m in self.net.modules())) if c}.values():
            one._attn_implementation = NAME
        for layer, block in enumerate(blocks(self.net)):
            for module in block.modules():
                module.__dict__["_watch"] = (self, layer)  # not by setattr: a net is no place for what is no module

    def passes(self, part: str, layer: int, value: Tensor) -> Tensor:
        puts = self.puts.get((part, layer), [])
        value = value.clone() if puts else value
        for put in puts:
            value[put.rows, put.head, put.token] = put.value.to(value)
        if part in self.keep:
            self.kept[part, layer] = value
        return value


def attend(module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, scaling: float | None = None,
           dropout: float = 0.0, softcap: float | None = None, **kwargs: Any) -> tuple[Tensor, Tensor]:
    """Softmax attention, step by step. Gives the mixed values (rows, queries, heads, size) and the pattern."""
    if kwargs.get("s_aux") is not None:
        raise NotImplementedError("attention with sinks of its own")
    watch, layer = module.__dict__.get("_watch", (None, 0))
    groups = query.shape[1] // key.shape[1]
    call = Call(attention_mask, query.shape[-1] ** -0.5 if scaling is None else scaling, softcap, groups)
    if watch is not None:
        watch.calls[layer] = call
        query, key, value = (watch.passes(part, layer, x) for part, x in ((QUERY, query), (KEY, key), (VALUE, value)))
    pattern = call.pattern(query @ key.repeat_interleave(groups, 1).transpose(2, 3))
    if watch is not None:
        pattern = watch.passes(PATTERN, layer, pattern)
    return (pattern @ value.repeat_interleave(groups, 1)).transpose(1, 2).contiguous(), pattern


ALL_ATTENTION_FUNCTIONS.register(NAME, attend)
ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, eager_mask)
