"""A model as a value: an edit returns a new model that shares all else with the old one; nothing is ever written in place."""

from __future__ import annotations

import copy
import difflib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.errors import LabError, NotADecoder

# Where torch keeps the hooks of a module. A copy gets empty ones, so no hook follows it, nor what a hook holds on to.
HOOKS = ("_forward_hooks", "_forward_hooks_with_kwargs", "_forward_hooks_always_called", "_forward_pre_hooks",
         "_forward_pre_hooks_with_kwargs", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks", "_state_dict_pre_hooks")


@dataclass(frozen=True, eq=False)
class Model:
    """A frozen causal language model, or text-to-image pipeline, with its tokenizer, and how it came to be.

    `net` shares every parameter that no edit touched with the net of `parent`, so it is read only: never write to its parameters, never
    hook it, never change its `requires_grad`. What needs hooks takes `skeleton()`; what needs other weights takes `with_weights()`.
    `source` is where the first of the lineage came from: "organism:scribe", "hub:gpt2@<commit>", "folder:NAME"; its files lie in `folder`.
    """

    name: str
    net: nn.Module = field(repr=False)
    tokenizer: Any = field(default=None, repr=False)
    parent: Model | None = field(default=None, repr=False)
    via: str = ""  # what made it from its parent
    source: str = ""
    folder: Path | None = None

    def with_weights(self, edits: Mapping[str, Tensor], via: str) -> Model:
        """A model that differs from this one in `edits` alone: parameter name -> value of its shape; copied, cast to its dtype and device.

        Tied weights stay tied: an edit under one of their names shows under all. This model is unchanged; both may run at once, in threads.
        Raises `LabError` on a name that is no parameter, on a wrong shape, and on weights that lie outside the device's memory.
        """
        memo: dict[int, Any] = {}
        for name, value in edits.items():
            old = self._parameter(name)
            if value.shape != old.shape:
                raise LabError(f"{name} has shape {tuple(old.shape)}, but the edit has {tuple(value.shape)}",
                               "an edit replaces a whole parameter", f"Build it from net.get_parameter({name!r})")
            if old.is_meta:
                raise LabError(f"{name} cannot be edited", "the model does not fit the device, so this weight is kept outside of it",
                               "Choose a smaller model or a larger device")
            new = nn.Parameter(value.detach().to(old, copy=True), requires_grad=False)
            if id(old) in memo and not torch.equal(memo[id(old)], new):
                raise LabError(f"two edits of one weight differ; the second is {name}",
                               "its weights are tied: one tensor under several names", "Edit it under one name")
            memo[id(old)] = new
        return replace(self, name=f"{self.name} · {via}", net=_copy(self.net, memo), parent=self, via=via)

    def skeleton(self) -> nn.Module:
        """A private copy of the net for hooks: it shares all parameters, has its own buffers, and starts without hooks.

        Hooks put on it reach no other copy. Its parameters are still everyone's: do not write to them or change their `requires_grad`.
        """
        return _copy(self.net, {})

    @property
    def lineage(self) -> tuple[str, ...]:
        """Where the first model came from, then what was done to it, oldest first."""
        if self.parent is None:
            return (self.source or self.name,)
        return (*self.parent.lineage, self.via)

    @property
    def origin(self) -> Model:
        """Where its lineage begins: the model before any edit, which is this one where nothing was done to it."""
        return self if self.parent is None else self.parent.origin

    @property
    def device(self) -> torch.device:
        """Where the inputs go: the device of the first weights that lie on one."""
        return next((p.device for p in self.net.parameters() if not p.is_meta), torch.device("cpu"))

    @property
    def task(self) -> str:
        """ "text" for a language model, "pictures" for a text-to-image pipeline."""
        return getattr(self.net, "task", "text")

    @property
    def dtype(self) -> torch.dtype:
        return next((p.dtype for p in self.net.parameters() if p.is_floating_point()), torch.get_default_dtype())

    def fingerprint(self) -> str:
        """SHA-256 over the names and bits of all parameters, in hex: equal for equal weights. Reads them all the first time it is asked."""
        total = hashlib.sha256()
        for name, digest in self._digests.items():
            total.update(f"{name} {digest}\n".encode())
        return total.hexdigest()

    @cached_property
    def _digests(self) -> dict[str, str]:
        """Parameter name -> SHA-256. What is shared with the parent is not read again."""
        before = dict(self.parent.net.named_parameters()) if self.parent else {}
        known = self.parent._digests if self.parent else {}
        return {n: known[n] if before.get(n) is p else _digest(_stored(self.net, n, p)) for n, p in self.net.named_parameters()}

    def _parameter(self, name: str) -> nn.Parameter:
        try:
            return self.net.get_parameter(name)
        except AttributeError:
            near = difflib.get_close_matches(name, [n for n, _ in self.net.named_parameters()], 3)
            raise LabError(f"{self.name} has no parameter {name!r}", "parameters are named as in net.named_parameters()",
                           f"Did you mean {' or '.join(near)}?" if near else "") from None

    def __deepcopy__(self, memo: dict[int, Any]) -> Model:
        return self  # a value is its own copy: gr.State deep-copies what it is given


def embedding(net: nn.Module) -> nn.Embedding:
    """The table that turns token ids into vectors."""
    table: Any = net
    return table.get_input_embeddings()


def blocks(net: nn.Module) -> nn.ModuleList:
    """The stack of decoder blocks of any Hugging Face decoder, first to last.

    It is found by its shape, not by the model's name: the outermost list of as many modules of one class as the config has layers (of
    several classes in a hybrid, if no list is of one). Where another part of the net, such as an image encoder, has a list as long, the
    decoder's own counts. Raises `NotADecoder` where none, or more than one, is found.
    """
    config = getattr(net, "config", None)
    if config is None or getattr(text := config.get_text_config(decoder=True), "num_hidden_layers", None) is None:
        raise NotADecoder(f"{type(net).__name__} does not say how many layers it has", "it is no decoder in the style of Hugging Face")
    count = getattr(text, "decoder_layers", None) or text.num_hidden_layers  # of those that were cut from an encoder-decoder, the decoder's
    stacks = {n: m for n, m in net.named_modules() if isinstance(m, nn.ModuleList) and len(m) == count > 0}
    stacks = {n: m for n, m in stacks.items() if not any(n.startswith(f"{outer}.") for outer in stacks)}  # experts are lists within a block
    alike = {n: m for n, m in stacks.items() if len({type(block) for block in m}) == 1} or stacks  # a hybrid's blocks differ in class
    if len(alike) > 1 and callable(find := getattr(net, "get_decoder", None)):
        inside = {id(m) for m in find().modules()}
        alike = {n: m for n, m in alike.items() if id(m) in inside}
    if len(alike) != 1:
        raise NotADecoder(f"the {count} decoder blocks of {type(net).__name__} cannot be told",
                          f"several lists are as long: {', '.join(alike)}" if alike else "no list of modules is as long")
    return next(iter(alike.values()))


def _copy(net: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """A copy with its own modules and buffers that takes its parameters from `memo` where they stand there, else shares them."""
    memo = {id(p): p for p in net.parameters()} | memo
    for module in net.modules():
        memo |= {id(own): type(own)() for name in HOOKS if (own := module.__dict__.get(name)) is not None}
        store = getattr(getattr(module, "_hf_hook", None), "weights_map", None)
        memo |= {} if store is None else {id(store): store}  # weights outside the device are many: share them too
    new = copy.deepcopy(net, memo)
    for module in new.modules():
        module.__dict__.pop("_output_capturing_hooks_installed", None)  # transformers' own hooks are gone, so let it install them again
    return new


def _stored(net: nn.Module, name: str, parameter: nn.Parameter) -> Tensor:
    """The value of a parameter, also where it is kept outside the device's memory."""
    if not parameter.is_meta:
        return parameter
    path, _, last = name.rpartition(".")
    return net.get_submodule(path)._hf_hook.weights_map[last]  # type: ignore[union-attr,index]


def _digest(value: Tensor) -> str:
    bits = value.detach().cpu().contiguous().flatten().view(torch.uint8)
    digest = hashlib.sha256(f"{value.dtype} {tuple(value.shape)} ".encode())
    digest.update(bits.numpy().data)
    return digest.hexdigest()
