"""Causal tracing as it is defined, with nothing clever: one whole forward a cell and a corrupted run, and ordinary hooks.

It knows the families of tests/families.py by name, and takes nothing from lab/trace but the map that it is compared with.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

# family -> the list of blocks; in a block, what its attention adds to the stream; in a block, what its MLP adds to it
PARTS = {
    "gpt2": ("transformer.h", "attn", "mlp"),
    "gpt_neox": ("gpt_neox.layers", "attention", "mlp"),
    "llama": ("model.layers", "self_attn", "mlp"),
    "mistral": ("model.layers", "self_attn", "mlp"),
    "qwen2": ("model.layers", "self_attn", "mlp"),
    "qwen3": ("model.layers", "self_attn", "mlp"),
    "olmo2": ("model.layers", "self_attn", "mlp"),
    "gemma2": ("model.layers", "self_attn", "mlp"),
    "gemma3": ("model.layers", "self_attn", "mlp"),
    "phi": ("model.layers", "self_attn", "mlp"),
    "phi3": ("model.layers", "self_attn", "mlp"),
    "opt": ("model.decoder.layers", "self_attn", "fc2"),
    "gptj": ("transformer.h", "attn", "mlp"),
    "gpt_neo": ("transformer.h", "attn", "mlp"),
    "bloom": ("transformer.h", "self_attention.dense", "mlp.dense_4h_to_h"),  # the modules themselves give the whole stream
    "falcon": ("transformer.h", "self_attention", "mlp"),
    "stablelm": ("model.layers", "self_attn", "mlp"),
    "mamba": ("backbone.layers", "", ""),
    "qwen3_moe": ("model.layers", "self_attn", "mlp"),
    "mixtral": ("model.layers", "self_attn", "mlp"),
    "olmoe": ("model.layers", "self_attn", "mlp"),
    "jamba": ("model.layers", "self_attn", "feed_forward"),
}


@dataclass
class Run:
    """One corrupted run: the ids that go in, and what becomes of the subject's embeddings."""

    ids: Tensor  # (tokens)
    change: Callable[[Tensor], Tensor] = lambda x: x


@dataclass
class Loop:
    """Every cell in a forward of its own. `answer` begins at position `start`; `foil` and `step` are those of a logit difference."""

    family: str
    net: nn.Module
    subject: tuple[int, int]
    start: int
    answer: Sequence[int]
    score: str = "probability"
    foil: int = -1
    step: int = 0

    def __post_init__(self) -> None:
        blocks, attention, mlp = PARTS[self.family]
        self.blocks: Any = self.net.get_submodule(blocks)
        self.names = {"hidden": "", "attention": attention, "mlp": mlp}

    def module(self, site: str, layer: int) -> nn.Module | None:
        try:
            return self.blocks[layer].get_submodule(self.names[site])
        except AttributeError:
            return None  # a hybrid has attention in some blocks alone

    @torch.no_grad()
    def __call__(self, run: Run, puts: Sequence[tuple[str, int, int, Tensor]] = ()) -> float:
        """The score of one run with `puts`: site, layer, token, value."""
        with contextlib.ExitStack() as stack:
            if run.change is not None:
                stack.enter_context(hooked(self.net.get_input_embeddings(), lambda out: changed(out, self.subject, run.change)))  # type: ignore[operator]
            for site, layer, token, value in puts:
                if (module := self.module(site, layer)) is not None:
                    stack.enter_context(hooked(module, lambda out, token=token, value=value: placed(out, token, value)))
            logits = self.net(input_ids=run.ids[None], use_cache=False).logits[0].float()[self.start - 1 :]
        return self.scored(logits)

    def scored(self, logits: Tensor) -> float:
        if self.score == "logit difference":
            return float(logits[self.step, self.answer[self.step]] - logits[self.step, self.foil])
        total = sum(logits[i].log_softmax(-1)[a] for i, a in enumerate(self.answer))
        return float(total.exp() if self.score == "probability" else total)  # type: ignore[union-attr]

    def states(self, run: Run) -> dict[tuple[str, int], Tensor]:
        """(site, layer) -> (tokens, width): what a run has at every site."""
        found: dict[tuple[str, int], Tensor] = {}
        with contextlib.ExitStack() as stack:
            for site, name in self.names.items():
                for layer in range(len(self.blocks)):
                    module = self.module(site, layer) if name or site == "hidden" else None
                    if module is not None:
                        stack.enter_context(hooked(module, lambda out, key=(site, layer): found.__setitem__(key, out.reshape(-1, out.shape[-1]).clone())))
            self(run)
        return found

    def map(self, clean: Run, runs: Sequence[Run], kind: str, windows: Sequence[tuple[int, int]] = ()) -> tuple[np.ndarray, float, np.ndarray]:
        """Scores (prompt tokens, layers, runs) of all cells, and those of the clean and of the corrupted runs."""
        layers, kept = len(self.blocks), self.states(clean)
        scores = np.zeros((self.start, layers, len(runs)))
        for n, run in enumerate(runs):
            own = self.states(run)
            for token in range(self.start):
                for layer in range(layers):
                    if kind in ("mlp", "attention"):
                        puts = [(kind, one, token, kept[kind, one][token]) for one in range(*windows[layer]) if (kind, one) in kept]
                    else:
                        held = kind.removeprefix("severed ")
                        puts = [("hidden", layer, token, kept["hidden", layer][token])]
                        puts += [(held, one, token, own[held, one][token]) for one in range(layer + 1, layers) if held != "hidden" and (held, one) in own]
                    scores[token, layer, n] = self(run, puts)
        return scores, self(clean), np.array([self(run) for run in runs])


@contextlib.contextmanager
def hooked(module: nn.Module, change: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
    """`change` gets what the module gives, the first of it where it gives several; None leaves it."""
    def hook(_: nn.Module, args: Any, out: Any) -> Any:
        new = change(out[0] if isinstance(out, tuple) else out)
        return out if new is None else (new, *out[1:]) if isinstance(out, tuple) else new

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def placed(out: Tensor, token: int, value: Tensor) -> Tensor:
    """A batch of one row, with `value` at `token`; OPT leaves the axis of the rows out."""
    rows = out.clone().reshape(-1, out.shape[-1])
    rows[token] = value
    return rows.reshape(out.shape)


def changed(out: Tensor, subject: tuple[int, int], change: Callable[[Tensor], Tensor]) -> Tensor:
    out, (begin, end) = out.clone(), subject
    out[0, begin:end] = change(out[0, begin:end]).to(out)
    return out


def noisy(ids: Tensor, subject: tuple[int, int], width: int, std: float, samples: int, seed: int = 0) -> list[Run]:
    """Runs with normal noise of `std` on the subject's embeddings, as anyone can draw it."""
    noise = std * torch.randn(samples, subject[1] - subject[0], width, generator=torch.Generator().manual_seed(seed))
    return [Run(ids, lambda x, n=n: x + n) for n in noise]
