"""What a model loses without a head: blocks run again from the head's layer on, many ablations in one batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from lab.attention._head_read import outlets
from lab.attention._head_texts import Texts
from lab.trace._replay import forward
from lab.trace._sites import matrix_size, query_heads, with_state
from models.model import Model, blocks

WORK = {"cpu": 1e9, "other": 1e12}  # multiply-adds of a step: a tenth of a second at most, so that Stop is felt
LOGITS = 2**22  # of a step: 16 MiB in float32


class Ablations:
    """A private net that can leave out a head of each row of a batch. `states[l]` (rows, tokens, width) is what goes into block l undisturbed."""

    def __init__(self, model: Model, texts: Texts) -> None:
        self.texts, self.net = texts, model.skeleton()
        self.blocks, self.heads = list(blocks(self.net)), query_heads(self.net)
        sizes = [matrix_size(block) for block in self.blocks]
        self.left = [sum(sizes[i:]) for i in range(len(sizes))]  # weights from a block on
        head: Any = self.net.get_output_embeddings()  # type: ignore[operator]
        self.head_size = head.weight.numel() if head is not None else 0
        self.states: list[Tensor] = []
        self.outputs: list[Any] = []  # what each block gave last: a state, or a tuple that begins with one
        self.sums: dict[int, Tensor] = {}  # layer -> (heads, size): sum over real tokens of what goes into the last matrix
        self.lengths, self.begins = texts.lengths, texts.begins
        self.layer, self.rows, self.out, self.tokens = -1, slice(0, 0), torch.zeros(0, dtype=torch.long), 0
        self.stand_in = torch.zeros(0)  # (heads, size)
        self.outlets = outlets(self.net)
        for layer, matrix in enumerate(self.outlets):
            if matrix is not None:
                matrix.register_forward_pre_hook(self._pass(layer))

    def pieces(self, layer: int, rows: Tensor) -> Iterator[slice]:
        """Of `rows`, numbers of texts, those that one step from `layer` on takes: like lengths together, where they are in order."""
        work, vocabulary = WORK.get(self.texts.ids.device.type, WORK["other"]), max(1, self.head_size // self.width)
        begin, longest, steps = 0, 0, 0
        for i, row in enumerate(rows.tolist()):
            length, scored = self.lengths[row], self.lengths[row] - self.begins[row] + 1
            longest, steps = max(longest, length), max(steps, scored, longest - self.begins[row] + 1)
            one = self.left[layer] * longest + self.head_size * steps
            if i > begin and ((i - begin + 1) * one > work or (i - begin + 1) * steps * vocabulary > LOGITS):
                yield slice(begin, i)
                begin, longest, steps = i, length, scored
        yield slice(begin, len(rows))

    @property
    def width(self) -> int:
        config: Any = self.net.config
        return config.get_text_config(decoder=True).hidden_size

    @torch.no_grad()
    def base(self) -> Iterator[Float[Tensor, "rows tokens"]]:
        """Runs the texts undisturbed; yields (rows of a batch, tokens - 1) losses in nats, batch after batch. Afterwards heads can be ablated."""
        found: list[list[Tensor]] = [[] for _ in self.blocks]
        hooks = [b.register_forward_pre_hook(self._enter(found[i]), with_kwargs=True) for i, b in enumerate(self.blocks)]
        hooks += [b.register_forward_hook(lambda _, args, output: self.outputs.append(output)) for b in self.blocks]
        for rows in self.pieces(0, torch.arange(len(self.texts.ids))):
            self.rows, self.outputs, self.tokens = rows, [], max(self.lengths[rows])
            ids = self.texts.ids[rows, : self.tokens]
            logits = forward(self.net, ids, self.tokens, None, use_cache=False)[:, :-1].float()
            loss = functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
            yield functional.pad(loss, (0, self.texts.ids.shape[1] - self.tokens))
        for hook in hooks:
            hook.remove()
        full = self.texts.ids.shape[1]
        self.states = [torch.cat([functional.pad(state, (0, 0, 0, full - state.shape[1])) for state in layer]) for layer in found]
        self.rows = slice(0, 0)

    def mean(self, layer: int) -> Float[Tensor, "heads size"]:
        """Each head's mean over the real tokens of the texts."""
        ends = torch.arange(self.texts.ids.shape[1]) < torch.tensor(self.lengths)[:, None]
        return self.sums[layer] / int((self.texts.real & ends).sum())

    @torch.no_grad()
    def effects(self, layer: int, loss: Float[Tensor, " rows"], mean: bool) -> Iterator[Float[Tensor, "rows heads"] | None]:
        """Yields None after every step, and last the rise of every row's loss, in nats a counted token, without each head of the layer."""
        count, found = len(self.texts.ids), []
        rows, heads = (x.flatten() for x in torch.meshgrid(torch.arange(count), torch.arange(self.heads), indexing="ij"))
        self.stand_in = self.mean(layer) if mean else torch.zeros_like(self.sums[layer])
        for piece in self.pieces(layer, rows):
            found.append(self._without(layer, heads[piece], rows[piece]))
            yield None
        yield torch.cat(found).reshape(count, self.heads) - loss[:, None]

    def _without(self, layer: int, heads: Tensor, rows: Tensor) -> Float[Tensor, " ablations"]:
        """The mean loss of each of `rows` without its head."""
        self.tokens = max(self.lengths[i] for i in rows.tolist())
        begin = min(self.begins[i] for i in rows.tolist())
        ids, counted = (x[rows, : self.tokens] for x in (self.texts.ids, self.texts.counted))
        hidden = self.states[layer][rows, : self.tokens]
        own = [block.__dict__.get("forward") for block in self.blocks]  # accelerate puts one on a block whose weights lie elsewhere
        for i in range(layer):
            self.blocks[i].__dict__["forward"] = _giving(with_state(self.outputs[i], hidden))
        self.layer, self.out = layer, heads.to(hidden.device)
        try:
            logits = forward(self.net, ids, self.tokens - begin + 1, None, use_cache=False)[:, :-1].float()
        finally:
            self.layer = -1
            for block, before in zip(self.blocks[:layer], own, strict=False):
                del block.__dict__["forward"]
                if before is not None:
                    block.__dict__["forward"] = before
        return per_row(functional.cross_entropy(logits.transpose(1, 2), ids[:, begin:], reduction="none"), counted[:, begin:].to(hidden.device))

    def _enter(self, found: list[Tensor]) -> Callable:
        def hook(_: nn.Module, args: tuple, kwargs: dict) -> None:
            found.append((args[0] if args else kwargs["hidden_states"]).clone())
        return hook

    def _pass(self, layer: int) -> Callable:
        """Adds up what heads give in the base pass; afterwards puts something else in the place of the head of each row."""
        def hook(_: nn.Module, args: tuple) -> tuple | None:
            value = args[0].reshape(-1, self.tokens, self.heads, args[0].shape[-1] // self.heads)
            if self.layer == layer:
                mixed = value.clone()
                mixed[torch.arange(len(mixed), device=value.device), :, self.out] = self.stand_in.to(mixed)[self.out, None]
                return (mixed.reshape(args[0].shape), *args[1:])
            if self.rows.stop:
                real = self.texts.real[self.rows, : self.tokens].to(value.device)
                self.sums[layer] = self.sums.get(layer, 0) + value[real].double().sum(0)
            return None
        return hook


def _giving(output: Any) -> Callable:
    return lambda *args, **kwargs: output


def per_row(loss: Float[Tensor, "rows tokens"], counted: Tensor) -> Float[Tensor, " rows"]:
    """Mean over the counted tokens of each row."""
    return (loss * counted).sum(1) / counted.sum(1)
