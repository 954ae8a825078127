"""Blocks run again one by one, from any layer on, and from any token on where the model keeps keys and values.

A base pass runs the clean and the corrupted rows whole and records how every block was called, what it gave, and its keys and values.
From then on a block can be called with other hidden states for the tokens from `start` on: its other arguments are cut to these tokens,
and the keys and values of the tokens before, which causality keeps as they were, are put in front. No architecture is known by name.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from lab.trace._call import Calls
from lab.trace._corrupt import Corrupter, Corruption
from lab.trace._private import Private, borrow, give_back
from lab.trace._routes import Routes
from lab.trace._sites import BLOCK, Taps, state
from models.model import Model, embedding

BASE = {"cpu": 8e9, "other": 2e12}  # multiply-adds a step: keeps it near 0.2 s, so that Stop is felt at once


class Unsuitable(Exception):
    """This way of running cells does not fit the model."""


class Found(Exception):
    """Leaves a block as soon as it has made its keys and values."""

    def __init__(self, pair: tuple[Tensor, Tensor]) -> None:
        self.pair = pair


class Memory(DynamicCache):
    """An empty cache that records keys and values in a base pass, and later puts `before` in front of those of a block."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[tuple[Tensor, Tensor]] = []
        self.before: tuple[Tensor, Tensor] | None = None
        self.stop = self.record = False

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if self.record:
            self.made.append((key_states, value_states))
        if self.stop:
            raise Found((key_states, value_states))
        if self.before is None:
            return key_states, value_states
        return behind(self.before[0], key_states), behind(self.before[1], value_states)


def behind(before: Tensor, now: Tensor) -> Tensor:
    """(rows, heads, before + now, size): what came before, (runs, heads, before, size), stands in front of every run of the batch."""
    if not before.shape[-2]:
        return now
    out = now.new_empty(*now.shape[:2], before.shape[-2] + now.shape[-2], now.shape[-1])
    out[..., : before.shape[-2], :].unflatten(0, (-1, len(before))).copy_(before)
    out[..., before.shape[-2]:, :] = now
    return out


@dataclass
class Replay:
    """The base pass of one prompt, and blocks run again on parts of it. Rows of the base: the clean run first, then the corrupted ones."""

    model: Model
    ids: Tensor  # (tokens of prompt and answer)
    steps: int  # positions at the end whose logits are scored
    subject: tuple[int, int]
    sites: frozenset[str]
    suffix: bool  # whether blocks are run on the tokens from `start` on alone
    mask: Tensor | None = None  # (tokens), 0 at padding; None where there is none
    again: bool = True  # whether blocks are to be run again at all
    flops: float = 0.0

    def __post_init__(self) -> None:
        self.private = borrow(self.model)
        self.net, self.blocks, self.sizes = self.private.net, self.private.stack, self.private.sizes
        self.taps = Taps(self.net, self.blocks, self.private.parts, self.sites | {BLOCK})
        self.routes = Routes(self.private, self.taps)
        self.corrupter = Corrupter(self.net, self.subject)
        self.memory = Memory() if self.suffix else None
        self.end = _Tail(self.private, self.ids[-self.steps:])
        self.device_work = BASE.get(self.ids.device.type, BASE["other"])
        self.made: list[tuple[Tensor, Tensor]] = []
        self.entry = torch.zeros(0)  # (1 + runs, tokens, width): what went into the first block
        self.hook = self.blocks[0].register_forward_hook(self._note)
        self.calls = Calls(len(self.ids), self.ids.device)

    def close(self) -> None:
        """Gives the private net back, without hooks, for the next prompt: to copy one takes as long as some cells do."""
        for hook in (*self.taps.hooks, *self.routes.hooks, self.corrupter.hook, self.hook):
            hook.remove()
        give_back(self.model, self.private)

    @property
    def tokens(self) -> int:
        return len(self.ids)

    @property
    def layers(self) -> int:
        return len(self.blocks)

    def base(self, corruption: Corruption, graph: bool = False) -> Tensor:
        """Runs the clean row and the corrupted ones; returns the log-probabilities (1 + runs, steps, vocabulary), float32. Raises `Unsuitable`.

        With `graph` what is kept, and what is returned, can be differentiated until `forget` is called.
        """
        root = embedding(self.net).register_forward_hook(lambda _, args, output: output.detach().requires_grad_()) if graph else None
        try:
            with torch.enable_grad() if graph else torch.inference_mode():
                log_probs = self._base(corruption)
        finally:
            if root:
                root.remove()
        if self.private.chain is None:
            self.private.chain = self.end.learn(self.kept(BLOCK, self.layers - 1)[:1, -self.steps :].detach())
        return log_probs

    def forget(self) -> None:
        """Lets go of the graph of a base pass."""
        self.taps.kept = {key: value.detach() for key, value in self.taps.kept.items()}
        self.made = [(keys.detach(), values.detach()) for keys, values in self.made]
        self.entry = self.entry.detach()
        self.calls.forget()

    def _base(self, corruption: Corruption) -> Tensor:
        runs = len(corruption.ids)
        self.corrupter.corruption, self.corrupter.rows = corruption, torch.arange(-1, runs, device=self.ids.device)
        hooks = [block.register_forward_pre_hook(self._record, with_kwargs=True) for block in self.blocks if self.again]
        extra: dict[str, Any] = {"use_cache": False} if self.memory is None else {"use_cache": True, "past_key_values": self.memory}
        if self.memory is not None:
            self.memory.record = True
        try:
            logits = forward(self.net, self.corrupter.ids(self.ids), self.steps, self.mask, **extra)
        except (AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
            if not self.again:
                raise
            raise Unsuitable(f"its blocks cannot be run again: {error}") from error
        finally:
            for hook in hooks:
                hook.remove()
        if self.memory is not None:
            self.made, self.memory.record, self.memory.made = self.memory.made, False, []
            if len(self.made) != self.layers or any(k.dim() != 4 or k.shape[-2] != self.tokens for k, _ in self.made):
                raise Unsuitable("not every block keeps keys and values of every token")
        self.taps.keep = frozenset()
        self.routes.learn()
        self.corrupter.rows = self.corrupter.rows[:0]
        self._count(0, runs + 1, self.tokens, self.tokens, whole=True)
        return log_probs(logits)

    def kept(self, site: str, layer: int) -> Tensor:
        """(1 + runs, tokens, width): what the base pass had at a site."""
        return self.taps.kept[site, layer]

    def rows_at_once(self, layer: int, tokens: int) -> int:
        """How many rows of so many tokens a block takes in one step: by work, not by the clock, so that the same run is cut in the same way."""
        return max(1, int(self.device_work / (max(1, self.sizes[layer]) * tokens)))

    @torch.inference_mode()
    def block(self, layer: int, hidden: Tensor, runs: slice, start: int, before: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """What block `layer` gives for `hidden` (rows, tokens from `start` on, width); `runs` says to which corrupted runs the rows belong, in turn.

        `before` are the keys and values of the tokens before `start`, (rows, heads, start, size); those of the base pass if None.
        """
        stop = start + hidden.shape[1]
        if self.memory is not None:
            self.memory.before = before or self.prefix(layer, runs, start)
        self._count(layer, len(hidden), hidden.shape[1], stop)
        with self.routes.counting(runs, start):
            return state(self.blocks[layer](hidden, **self.calls.part(layer, len(hidden), start, stop)))

    def prefix(self, layer: int, runs: slice, start: int) -> tuple[Tensor, Tensor]:
        """Keys and values, (runs, heads, start, size), of the tokens before `start` in the corrupted runs."""
        return tuple(made[1:][runs, :, :start] for made in self.made[layer])  # type: ignore[return-value]

    @torch.inference_mode()
    def keys_and_values(self, layer: int, hidden: Tensor, runs: slice, start: int) -> tuple[Tensor, Tensor]:
        """Those of all tokens up to the last of `hidden`: nothing else of the block is run."""
        memory, stop = self.memory, start + hidden.shape[1]
        assert memory is not None
        memory.stop, memory.before = True, None
        try:
            self.blocks[layer](hidden, **self.calls.part(layer, len(hidden), start, stop))
        except Found as found:
            keys, values = found.pair
        finally:
            memory.stop = False
        self.flops += len(hidden) * hidden.shape[1] * 0.5 * self.sizes[layer]  # about a quarter of the matrices of a block
        before = self.prefix(layer, runs, start)
        return behind(before[0], keys), behind(before[1], values)

    @torch.inference_mode()
    def tail(self, hidden: Tensor) -> Tensor:
        """Log-probabilities (rows, steps, vocabulary), of the last block's output at the scored positions (rows, steps, width)."""
        self.flops += 2.0 * hidden.shape[0] * hidden.shape[1] * self.end.size
        return log_probs(self.end(hidden))

    def _record(self, block: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
        try:
            hidden = self.calls.note(block, args, kwargs)
        except TypeError as error:
            raise Unsuitable(f"its blocks are called in a way that cannot be told: {error}") from error
        if len(self.calls.each) == 1:
            self.entry = hidden

    def _note(self, _: nn.Module, args: Any, output: Any) -> None:
        self.end.tuples = isinstance(output, tuple)

    def _count(self, layer: int, rows: int, queries: int, keys: int, whole: bool = False) -> None:
        """Adds to `flops`: two for each multiplication by a weight, and four for each query, key and number of the stream."""
        width = self.kept(BLOCK, 0).shape[-1]
        for one in range(self.layers) if whole else [layer]:
            self.flops += rows * queries * (2.0 * self.sizes[one] + 4.0 * keys * width)
        if whole:
            self.flops += 2.0 * rows * queries * self.end.size

    def loop_flops(self, cells: int, runs: int) -> float:
        """What `cells` whole forwards of the clean and the corrupted rows take, as a plain loop runs them."""
        width = self.kept(BLOCK, 0).shape[-1]
        one = sum(2.0 * size + 4.0 * self.tokens * width for size in self.sizes) + 2.0 * self.end.size
        return cells * (1 + runs) * self.tokens * one


class _Tail:
    """All that comes after the last block, run by the net itself while its blocks let a given state through.

    Where that is no more than some modules one after the other, as `learn` finds out, these are run alone: a net does much else in a forward.
    """

    def __init__(self, private: Private, ids: Tensor) -> None:
        self.private, self.net, self.stack, self.ids = private, private.net, private.stack, ids
        self.hidden, self.tuples = torch.zeros(0), False
        head: Any = self.net.get_output_embeddings()  # type: ignore[operator]
        self.size = head.weight.numel() if head is not None else 0

    @torch.inference_mode()
    def learn(self, hidden: Tensor) -> list[nn.Module]:
        """The modules that run after the last block if they alone, in their order, turn its output (rows, steps, width) into the net's logits."""
        ran: list[nn.Module] = []
        inside = {id(m) for block in self.stack for m in block.modules()}
        outer = [m for m in self.net.modules() if id(m) not in inside and not list(m.children()) and list(m.parameters())]
        done: list[bool] = []
        hooks = [m.register_forward_pre_hook(lambda m, _: ran.append(m) if done else None) for m in outer]
        hooks.append(self.stack[-1].register_forward_hook(lambda *_: done.append(True)))
        try:
            logits = self._by_net(hidden)
        finally:
            for hook in hooks:
                hook.remove()
        value = hidden
        try:
            for module in ran:
                value = module(value)
        except RuntimeError:  # the net does something between them
            return []
        return ran if value.shape == logits.shape and value.dtype == logits.dtype and torch.equal(value, logits) else []

    def _through(self, *args: Any, **kwargs: Any) -> Any:
        return (self.hidden, None) if self.tuples else self.hidden

    def _by_net(self, hidden: Tensor) -> Tensor:
        self.hidden = hidden
        own = [block.__dict__.get("forward") for block in self.stack]  # accelerate puts one on a block whose weights lie elsewhere
        for block in self.stack:
            block.__dict__["forward"] = self._through
        try:
            return forward(self.net, self.ids.expand(len(hidden), -1), hidden.shape[1], None, use_cache=False)
        finally:
            for block, before in zip(self.stack, own, strict=True):
                del block.__dict__["forward"]
                block.__dict__.update({"forward": before} if before else {})

    def __call__(self, hidden: Tensor) -> Tensor:
        if not self.private.chain:
            return self._by_net(hidden)
        for module in self.private.chain:
            hidden = module(hidden)
        return hidden


@functools.cache
def parameters_of(function: Callable) -> frozenset[str]:
    """The names of what a function takes."""
    return frozenset(inspect.signature(function).parameters)


def forward(net: nn.Module, ids: Tensor, steps: int, mask: Tensor | None, **extra: Any) -> Tensor:
    """Logits (rows, steps, vocabulary) of the last `steps` positions; the head is run on no other where the model lets us ask for it."""
    if mask is not None:
        extra |= {"attention_mask": mask.expand(len(ids), -1), "position_ids": (mask.cumsum(0) - 1).clamp(min=0).expand(len(ids), -1)}
    known = parameters_of(type(net).forward)
    if "logits_to_keep" in known:
        extra["logits_to_keep"] = steps
    if "position_ids" in extra and "position_ids" not in known:
        del extra["position_ids"]
    return net(input_ids=ids, **extra).logits[:, -steps:]


def log_probs(logits: Tensor) -> Tensor:
    """In single precision at least."""
    return logits.log_softmax(-1, torch.promote_types(logits.dtype, torch.float32))


def pieces(rows: int, size: int) -> Iterator[slice]:
    """Slices of at most `size` that cover `rows`."""
    for start in range(0, rows, size):
        yield slice(start, min(start + size, rows))
