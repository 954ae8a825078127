"""The one small net around every memory: embedding, blocks of stem, mixer and MLP, and the embedding again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from models.memory.mixer import Along, Kept, Mixer, Seen, Stem

DIM, LAYERS = 48, 2
BUDGET = 52_000  # parameters: the MLPs are as wide as what the mixers leave


@dataclass(frozen=True)
class State:
    """All that a net carries from token to token. `seen` is what each layer did at the last token; it is not carried and not counted."""

    read: int  # tokens
    kept: tuple[Kept, ...]
    seen: tuple[Seen, ...] = ()

    @property
    def bytes(self) -> int:
        """Of one sequence: the tensors that are carried, as they are stored. Where notes stood (`at`) is for people to look at and left out."""
        return sum(t[0].numel() * t.element_size() for kept in self.kept for name, t in kept.items() if name != "at")


class Block(nn.Module):
    """x + mixer(stem(norm(x))), then x + MLP(norm(x))."""

    def __init__(self, mixer: Mixer, dim: int, inner: int) -> None:
        super().__init__()
        self.norm, self.stem, self.mixer = nn.RMSNorm(dim, eps=1e-5), Stem(dim), mixer
        self.norm_mlp, self.up, self.down = nn.RMSNorm(dim, eps=1e-5), nn.Linear(dim, inner, bias=False), nn.Linear(inner, dim, bias=False)

    def forward(self, x: Float[Tensor, "batch time dim"], along: Along) -> Float[Tensor, "batch time dim"]:
        return self.think(x + self.mixer(self.stem(self.norm(x)), along))

    def think(self, x: Tensor) -> Tensor:
        return x + self.down(F.silu(self.up(self.norm_mlp(x))))

    def start(self, batch: int) -> Kept:
        return self.mixer.start(batch) | {"stem": self.stem.start(batch)}

    def step(self, x: Float[Tensor, "batch dim"], kept: Kept, along: Along) -> tuple[Tensor, Kept, Seen]:
        h, last = self.stem.step(self.norm(x), kept["stem"])
        y, new, seen = self.mixer.step(h, {n: t for n, t in kept.items() if n != "stem"}, along)
        return self.think(x + y), new | {"stem": last}, seen


class Reader(nn.Module):
    """`forward` reads whole sequences; `step` reads on from a state, leaves it as it is, and returns the next one. Both give logits of what comes next."""

    def forward(self, tokens: Int[Tensor, "batch time"], along: Along | None = None) -> Float[Tensor, "batch time tokens"]:
        raise NotImplementedError

    def start(self, batch: int) -> State:
        raise NotImplementedError

    def step(self, state: State, tokens: Int[Tensor, " batch"]) -> tuple[State, Float[Tensor, "batch tokens"]]:
        raise NotImplementedError


class Net(Reader):
    """A reader of blocks with one kind of mixer."""

    def __init__(self, mixer: Callable[[int], Mixer], tokens: int, dim: int = DIM, layers: int = LAYERS, budget: int = BUDGET) -> None:
        super().__init__()
        self.embed = nn.Embedding(tokens, dim)
        nn.init.normal_(self.embed.weight, std=0.02 * dim**0.5)
        mixers = [mixer(dim) for _ in range(layers)]
        spent = tokens * dim + sum(p.numel() for m in mixers for p in m.parameters()) + layers * (Stem(dim).conv.weight.numel() + 3 * dim) + dim
        inner = max(dim // 4, round((budget - spent) / (2 * dim * layers)))
        self.blocks = nn.ModuleList(Block(m, dim, inner) for m in mixers)
        self.norm = nn.RMSNorm(dim, eps=1e-5)

    def forward(self, tokens: Int[Tensor, "batch time"], along: Along | None = None) -> Float[Tensor, "batch time tokens"]:
        along = along or Along()
        x = self.embed(tokens)
        for block in self.blocks:
            x = block(x, along)
        return self.norm(x) @ self.embed.weight.T

    def start(self, batch: int) -> State:
        return State(0, tuple(block.start(batch) for block in self.blocks))  # type: ignore[operator]

    def step(self, state: State, tokens: Int[Tensor, " batch"]) -> tuple[State, Float[Tensor, "batch tokens"]]:
        x, along, kept, seen = self.embed(tokens), Along(state.read), [], []
        for block, mine in zip(self.blocks, state.kept, strict=True):
            x, new, look = block.step(x, mine, along)  # type: ignore[operator]
            kept.append(new)
            seen.append(look)
        return State(state.read + 1, tuple(kept), tuple(seen)), self.norm(x) @ self.embed.weight.T


def run(net: Reader, tokens: Int[Tensor, "batch time"]) -> Float[Tensor, "batch time tokens"]:
    """The logits of the recurrent form, token by token."""
    state, found = net.start(len(tokens)), []
    for t in range(tokens.shape[1]):
        state, logits = net.step(state, tokens[:, t])
        found.append(logits)
    return torch.stack(found, 1)
