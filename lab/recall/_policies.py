"""Reading a text with a memory: the context piece by piece into a cache that forgets by a policy, then the question."""

from __future__ import annotations

import inspect
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers.cache_utils import CacheLayerMixin, DynamicCache, DynamicLayer

from lab.memorization._rows import positions, vocabulary
from lab.recall._cache import HeavyLayer, KeptLayer, QuantizedLayer, SinkLayer, turned
from lab.recall._settings import DECOUPLED, EVICTING, FULL, GAP, HEAVY, ISOLATED, QUANTIZED, SINKS, WINDOW, Recall
from models.attention import PATTERN, Watch
from models.errors import BadInput
from models.model import Model

T = TypeVar("T")
PROBED = 10  # tokens of the check
CLOSE, ROUGH = 1e-3, 0.1  # how close logits have to be, as a share of their spread: with 32 bits a number, and with 16


@dataclass(frozen=True)
class Policy:
    """`name` is one of POLICIES; the others are as in the settings."""

    name: str = FULL
    kept: int = 32
    sinks: int = 4
    bits: int = 4
    step: int = 4
    renumber: bool = True

    @classmethod
    def of(cls, settings: Recall) -> Policy:
        return cls(settings.policy, settings.kept, settings.sinks, settings.bits, settings.step, settings.renumber)

    @property
    def label(self) -> str:
        """A few words to know it by."""
        more = {WINDOW: f" {self.kept}", SINKS: f" {self.sinks} + {self.kept - self.sinks}", HEAVY: f" {self.kept}", QUANTIZED: f" {self.bits} bit"}
        return ("sink + window" if self.name == SINKS else self.name) + more.get(self.name, "")


class Reader:
    """Reads contexts and answers questions. `full` is one plain forward, which any causal model can do.

    Raises `BadInput`, naming the policy, where the model cannot have it: that is found by reading a few tokens with a memory that may keep all of them,
    which has to change nothing.
    """

    def __init__(self, model: Model, policy: Policy) -> None:
        self.model, self.policy = model, policy
        self.net: Any = model.skeleton()  # transformers hooks a net that is asked for its hidden states
        self.watch: Watch | None = None
        self.frequencies: Tensor | None = None
        self.short = "logits_to_keep" in inspect.signature(self.net.forward).parameters
        if policy.name == FULL:
            return
        if policy.name == SINKS and policy.sinks >= policy.kept:
            raise BadInput(f"{policy.sinks} of {policy.kept} tokens are sinks, so none is left for the window", cure="Keep more tokens, or fewer sinks",
                           setting="sinks")
        if not replaced(model):
            raise BadInput(f"{policy.name} is no memory for {model.name}", cause(model), "Choose the policy full", setting="policy")
        if policy.name in (DECOUPLED, ISOLATED) and frequencies(self.net) is None:
            raise BadInput(f"{policy.name} is nothing for {model.name}", "its positions are not rotary: each has a place of its own in a table, or a slope",
                           "Choose the policy full, or a model such as Qwen3 or Llama", setting="policy")
        if policy.name == HEAVY:
            self.watch = Watch(self.net, frozenset({PATTERN}))
        self.check()
        if policy.name == SINKS and policy.renumber:
            self.frequencies = renumbered(model)

    def ask(self, context: Int[Tensor, "rows context"], question: Int[Tensor, "rows question"], last: int = 1) -> Float[Tensor, "rows last words"]:
        """Logits after each of the `last` tokens of the question, float32; `last` is no more than the question has."""
        return finished(self.asking(context, question, last))

    def asking(self, context: Tensor, question: Tensor, last: int = 1) -> Generator[None, None, Tensor]:
        """The same, piece by piece: whoever waits can be told."""
        if self.policy.name == FULL:
            return self.forward(torch.cat([context, question], 1), last)
        cache = yield from self.reading(context)
        if self.policy.name in (DECOUPLED, ISOLATED):
            begin = 0 if self.policy.name == DECOUPLED else GAP
            return self.forward(question, last, cache, begin + torch.arange(question.shape[1], device=question.device)[None])
        logits = []
        for piece in question.split(self.policy.step, 1):
            logits.append(self.piece(piece, cache, piece.shape[1]))
            yield
        return torch.cat(logits, 1)[:, -last:]

    @torch.no_grad()
    def states(self, ids: Int[Tensor, "rows tokens"], last: int = 1) -> tuple[Float[Tensor, "rows last words"], tuple[Tensor, ...]]:
        """Logits after the last tokens, and the hidden states (rows, tokens, width) before the first block and after each, of one plain forward."""
        out = self.net(input_ids=ids, use_cache=False, output_hidden_states=True, **({"logits_to_keep": last} if self.short else {}))
        return out.logits[:, -last:].float(), out.hidden_states

    def reading(self, context: Int[Tensor, "rows context"]) -> Generator[None, None, DynamicCache]:
        """What is left of the context when it has been read."""
        cache = self.fresh()
        for piece in context.split(self.policy.step if self.policy.name in EVICTING else context.shape[1], 1):
            self.piece(piece, cache, 1)
            yield
        return cache

    def losing(self, ids: Int[Tensor, "rows tokens"]) -> Generator[None, None, Float[Tensor, "rows following"]]:
        """Nats of every token but the first, read with this memory."""
        logits, cache = [], None if self.policy.name in (FULL, DECOUPLED, ISOLATED) else self.fresh()
        for piece in ids.split(ids.shape[1] if cache is None else self.policy.step, 1):
            logits.append(self.forward(piece, piece.shape[1]) if cache is None else self.piece(piece, cache, piece.shape[1]))
            yield
        said = torch.cat(logits, 1)[:, :-1]
        return nn.functional.cross_entropy(said.flatten(0, 1), ids[:, 1:].flatten(), reduction="none").view(len(ids), -1)

    def piece(self, ids: Tensor, cache: DynamicCache, last: int) -> Tensor:
        """Reads a piece, then forgets."""
        if self.watch is not None:
            self.watch.kept.clear()
        logits = self.forward(ids, last, cache)
        for i, layer in enumerate(cache.layers):
            if isinstance(layer, KeptLayer):
                layer.trim(self.pattern(i))
        return logits

    def pattern(self, layer: int) -> Tensor | None:
        if self.watch is None:
            return None
        if (PATTERN, layer) not in self.watch.kept:
            raise NotImplementedError("its attention cannot be opened")
        return self.watch.kept[PATTERN, layer]

    @torch.no_grad()
    def forward(self, ids: Tensor, last: int, cache: DynamicCache | None = None, places: Tensor | None = None) -> Tensor:
        asked: dict[str, Any] = {"input_ids": ids, "use_cache": cache is not None}
        asked |= {} if cache is None else {"past_key_values": cache}
        asked |= {} if places is None else {"position_ids": places}
        asked |= {"logits_to_keep": last} if self.short else {}
        return self.net(**asked).logits[:, -last:].float()

    def fresh(self, kept: int | None = None) -> DynamicCache:
        """An empty cache; `kept` stands in for what the policy says."""
        cache, policy = DynamicCache(config=self.net.config), self.policy
        kept = policy.kept if kept is None else kept
        for i, layer in enumerate(cache.layers):
            if type(layer) is DynamicLayer:
                cache.layers[i] = {
                    WINDOW: lambda: SinkLayer(0, kept), SINKS: lambda: SinkLayer(policy.sinks, kept, self.frequencies),
                    HEAVY: lambda: HeavyLayer(kept), QUANTIZED: lambda: QuantizedLayer(policy.bits)}.get(policy.name, KeptLayer)()
        return cache

    def check(self) -> None:
        """Raises `BadInput` where a memory that keeps everything changes what the model says."""
        length = min(PROBED, positions(self.model))
        ids = torch.randint(vocabulary(self.model), (2, length), generator=torch.Generator().manual_seed(0)).to(self.model.device)
        plain = self.forward(ids, length)
        try:
            cache = self.fresh(kept=10**6)
            read = torch.cat([self.piece(piece, cache, piece.shape[1]) for piece in ids.split(3, 1)], 1)
        except (RuntimeError, ValueError, IndexError, KeyError, TypeError, AttributeError, NotImplementedError) as error:
            raise BadInput(f"{self.model.name} cannot be read with {self.policy.name}", f"its attention does not go through the interface of transformers: "
                           f"{str(error)[:80]}",
                           "Choose the policy full", setting="policy") from error
        room = CLOSE if self.model.dtype == torch.float32 else ROUGH
        if not float((read - plain).abs().max()) <= room * max(1.0, float(plain.std())):
            raise BadInput(f"{self.model.name} cannot be read with {self.policy.name}", "read piece by piece it says something else even where all is kept",
                           "Choose the policy full", setting="policy")


def finished(steps: Generator[Any, None, T]) -> T:
    """What a generator returns, without what it yields."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


def replaced(model: Model) -> int:
    """How many layers of the model a policy changes."""
    net: Any = model.net
    layers = DynamicCache(config=net.config).layers
    if not all(isinstance(layer, CacheLayerMixin) for layer in layers) or recurrent(net):
        return 0
    return sum(type(layer) is DynamicLayer for layer in layers)


def recurrent(net: Any) -> bool:
    """Whether the net carries a state of its own instead of keys and values: its forward takes `cache_params`, or a block has a recurrent part."""
    return "cache_params" in inspect.signature(net.forward).parameters or any(hasattr(m, "A_log") for m in net.modules())


def cause(model: Model) -> str:
    if recurrent(model.net):
        return "it carries a state of fixed size, in place of keys and values that could be left out"
    return "each of its layers has a window of its own"


def holding(reader: Reader, length: int) -> Generator[None, None, int]:
    """Bytes of memory that one text of `length` tokens leaves behind."""
    ids = torch.zeros(1, length, dtype=torch.long, device=reader.model.device)
    if reader.policy.name != FULL:
        return size((yield from reader.reading(ids)))
    with torch.no_grad():
        out = reader.net(input_ids=ids, use_cache=True, **({"logits_to_keep": 1} if reader.short else {}))
    return size(getattr(out, "past_key_values", None) or getattr(out, "cache_params", None))


def held(model: Model, policy: Policy, length: int) -> int:
    """The same, for a model and a policy."""
    return finished(holding(Reader(model, policy), length))


def size(cache: Any) -> int:
    """Bytes of all that a cache holds: keys and values, or the states of recurrent layers."""
    total = 0
    for layer in cache.layers:
        if isinstance(layer, KeptLayer):
            total += layer.size()
            continue
        tensors = [getattr(layer, name, None) for name in ("keys", "values")]
        for name in ("conv_states", "recurrent_states"):
            states = getattr(layer, name, None)
            tensors += list(states.values()) if isinstance(states, dict) else list(states) if isinstance(states, (list, tuple)) else [states]
        total += sum(t.numel() * t.element_size() for t in tensors if isinstance(t, Tensor))
    return total


def frequencies(net: nn.Module) -> Tensor | None:
    """Angles a position that pairs of a key turn by, or None where positions are not rotary."""
    found = [value for m in net.modules() for name, value in m.named_buffers(recurse=False) if name == "inv_freq"]
    return found[0] if found else None


@torch.no_grad()
def renumbered(model: Model) -> Tensor:
    """The frequencies, proved: keys of two texts that differ in where they begin have to be each other's, turned. Raises `BadInput` where they are not."""
    net: Any = model.net
    found = frequencies(net)
    fault = f"positions of {model.name} cannot be renumbered"
    cure = "Switch renumber off: positions then are those in the text"
    if found is None:
        raise BadInput(fault, "they are not rotary", cure, setting="renumber")
    ids, by = torch.arange(4, device=model.device)[None], 7
    places = torch.arange(4, device=model.device)[None]
    caches = [net(input_ids=ids, position_ids=p, past_key_values=DynamicCache(config=net.config), use_cache=True).past_key_values for p in (places,
                                                                                                                                            places + by)]
    for one, other in zip(caches[0].layers, caches[1].layers, strict=True):
        if type(one) is DynamicLayer:
            a, b = one.keys, other.keys
            if a is None or b is None or float((turned(a, by, found) - b).abs().max()) > 1e-2 * float(b.abs().max()):
                raise BadInput(fault, "they turn in a way of their own", cure, setting="renumber")
    return found
