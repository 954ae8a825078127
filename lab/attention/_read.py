"""Patterns, values and outputs of the attention of any decoder, one layer after the other, so that no more than one layer's lie in memory.

The net runs in a thread of its own that waits at every layer until what it found there has been used, so that a run can be stopped between two layers.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from lab.trace._sites import HEAD, anatomy
from models.attention import PATTERN, VALUE, Watch
from models.errors import BadInput
from models.model import Model, blocks

BOUND = 2**30  # bytes of patterns at a time: with the model, no more than a free server has
COPIES = 5  # of a pattern that live at once: products, scaled, masked, after softmax, and as it is used
NUMBERS = 2**23  # of a batch of patterns: 32 MiB in float32
WAIT = 0.15  # seconds after which a caller may say that it still works


@dataclass(frozen=True)
class Attended:
    """What one layer attended to. Rows of `pattern` sum to one; later tokens, and padding, have no weight.

    `value` are the vectors that were mixed and `mixed` what came of it, before the last matrix, which is `out`, (query heads * size, width); None where
    the architecture computes attention in a way of its own.
    """

    layer: int
    pattern: Tensor  # (rows, heads, queries, keys), float32
    value: Tensor | None  # (rows, heads of keys and values, tokens, size)
    mixed: Tensor | None  # (rows, tokens, heads * size)
    out: Tensor | None


class _Left(Exception):
    """Leaves a forward whose rest nobody needs."""


@dataclass
class _Reader:
    """Hooks on a private net that hand over each layer when its block has run."""

    net: nn.Module
    width: int
    last: int
    found: queue.Queue[Attended | BaseException | None] = field(default_factory=queue.Queue)
    turn: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    left: bool = False
    second: dict[int, Tensor] = field(default_factory=dict)  # layer -> a pattern that an attention returned beside its output
    mixed: dict[int, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.watch = Watch(self.net, frozenset({PATTERN, VALUE}))
        for layer, block in enumerate(blocks(self.net)):
            matrix = anatomy(block, self.width).get(HEAD)
            if matrix is not None:
                matrix.register_forward_pre_hook(self._mixed(layer))
            for name, module in block.named_modules():
                if "att" in f"{name} {type(module).__name__}".lower():
                    module.register_forward_hook(self._second(layer))
            block.register_forward_hook(self._hand_over(layer, matrix))

    def _mixed(self, layer: int) -> Any:
        def hook(_: nn.Module, args: tuple) -> None:
            self.mixed[layer] = args[0]
        return hook

    def _second(self, layer: int) -> Any:
        def hook(_: nn.Module, args: tuple, output: Any) -> None:
            second = output[1] if isinstance(output, tuple) and len(output) > 1 else None
            if isinstance(second, Tensor) and second.dim() == 4 and second.shape[-1] == second.shape[-2]:
                self.second[layer] = second
        return hook

    def _hand_over(self, layer: int, matrix: Any) -> Any:
        def hook(_: nn.Module, args: tuple, output: Any) -> None:
            value, mixed = self.watch.kept.pop((VALUE, layer), None), self.mixed.pop(layer, None)
            second = self.second.pop(layer, None)
            pattern = self.watch.kept.pop((PATTERN, layer), second)
            if pattern is not None:
                self.found.put(Attended(layer, shares(pattern), value, mixed, turned(matrix)))
                del pattern, second, value, mixed
                self.turn.acquire()
            if self.left or layer == self.last:
                raise _Left
        return hook

    def run(self, ids: Tensor, mask: Tensor | None) -> None:
        """The forward; what it raises is handed over too, and None is its end."""
        try:
            with torch.inference_mode():
                self.net(input_ids=ids, attention_mask=mask, use_cache=False)
        except _Left:
            pass
        except BaseException as error:
            self.found.put(error)
        self.found.put(None)


def shares(pattern: Tensor) -> Tensor:
    """In float32; what half precision rounded is made to sum to one again."""
    if pattern.dtype == torch.float32:
        return pattern
    pattern = pattern.float()
    return pattern / pattern.sum(-1, keepdim=True)


def turned(matrix: Any) -> Tensor | None:
    """The weights of a linear map as (what goes in, what comes out). GPT-2's keeps them so, and says it by `nf`."""
    return None if matrix is None else matrix.weight if getattr(matrix, "nf", 0) else matrix.weight.T


def read(model: Model, ids: Tensor, mask: Tensor | None = None, last: int = -1) -> Iterator[Attended | None]:
    """Each layer that attends, first to last, or up to layer `last`; None whenever there is nothing yet, so that the caller can say that it works.

    What is handed over may be used until the next is asked for. Raises `BadInput` where no block attends in a way that can be seen.
    """
    config: Any = model.net.config
    reader = _Reader(model.skeleton(), config.get_text_config(decoder=True).hidden_size, last)
    thread = threading.Thread(target=reader.run, args=(ids, mask), daemon=True)
    thread.start()
    some = False
    try:
        while True:
            try:
                found = reader.found.get(timeout=WAIT)
            except queue.Empty:
                yield None
                continue
            if found is None:
                break
            if isinstance(found, NotImplementedError):
                raise unseen(model) from found
            if isinstance(found, BaseException):
                raise found
            some = True
            yield found
            del found
            reader.turn.release()
    finally:
        reader.left = True
        reader.turn.release()
        thread.join()
    if not some:
        raise unseen(model)


def unseen(model: Model) -> BadInput:
    return BadInput(f"the attention of {type(model.net).__name__} cannot be seen", "its blocks mix tokens in another way, or show no weights",
                    "Choose another model", setting="model")


def heads_of(model: Model) -> int:
    """How many query heads a layer has. Raises `BadInput` where the model has none."""
    config: Any = model.net.config
    count = getattr(config.get_text_config(decoder=True), "num_attention_heads", None)
    if not count:
        raise unseen(model)
    return int(count)


def estimate(model: Model, tokens: int, rows: int = 1) -> int:
    """Bytes that the patterns of one layer take while they are computed and read."""
    return COPIES * 4 * rows * heads_of(model) * tokens * tokens


def fits(model: Model, tokens: int, setting: str) -> str:
    """What one layer will take, in words. Raises `BadInput` where it is above the bound."""
    size = estimate(model, tokens)
    if size > BOUND:
        most = int((BOUND / estimate(model, 1)) ** 0.5)
        raise BadInput(f"{tokens:,} tokens need {size / 2**20:,.0f} MiB for the attention of one layer", f"{BOUND / 2**20:,.0f} MiB are allowed",
                       f"Cut the text to {most:,} tokens", setting=setting)
    return f"{tokens:,} tokens, {max(1, size // 2**20):,} MiB of attention at a time"


def batched(lengths: Sequence[int], heads: int, most: int = 64) -> Iterator[list[int]]:
    """Indices of texts of like length, the shortest first, so many that their patterns stay small."""
    batch: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if batch and (len(batch) == most or (len(batch) + 1) * heads * lengths[i] ** 2 > NUMBERS):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch
