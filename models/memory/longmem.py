"""LongMem: a frozen net with a window, whose keys and values are kept in a bank, and a trained side network that looks them up."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from models.memory.attention import Attention, visible
from models.memory.mixer import KEY, Along, Kept, Mixer, Seen
from models.memory.net import Block, Net, Reader, State

CHUNK, TOP = 4, 4  # tokens of a chunk, which are found together by their mean key; chunks that a token finds. In the paper 4, and 64 tokens


class Retrieval(Mixer):
    """Window attention of its own, and attention over what it finds in the bank: A = s A_memory + (1 - s) A_local, s = sigmoid(b), b learned.

    The bank holds the frozen layer's keys and values of every token; a token may find what has left its window. `along.notes` brings the bank.
    """

    def __init__(self, frozen: Attention) -> None:
        super().__init__()
        dim = frozen.q.in_features
        if frozen.window is None:
            raise ValueError("a backbone without a window forgets nothing that could be found")
        self.local, self.window = Attention(dim, frozen.window, frozen.sinks), frozen.window
        self.local.load_state_dict(frozen.state_dict())  # the side network begins as a copy, so that its queries already fit the frozen keys
        self.ask = nn.Linear(dim, KEY, bias=False)
        self.ask.load_state_dict(frozen.q.state_dict())
        self.gate = nn.Parameter(torch.zeros(()))

    def found(self, q: Tensor, keys: Tensor, values: Tensor, old: Tensor) -> tuple[Tensor, Tensor]:
        """A_memory of queries (batch, time, KEY), and its weights over the bank; `old` (time): how many tokens of the bank each may ask."""
        chunks = keys.shape[1] // CHUNK
        if not chunks:
            return q.new_zeros(*q.shape[:2], values.shape[2]), q.new_zeros(*q.shape[:2], keys.shape[1])
        means = keys[:, : chunks * CHUNK].unflatten(1, (chunks, CHUNK)).mean(2)
        whole = torch.arange(1, chunks + 1, device=q.device) * CHUNK <= old[:, None]
        near = (q @ means.transpose(1, 2)).masked_fill(~whole, -math.inf)
        best = near.topk(min(TOP, chunks), -1)
        chosen = torch.zeros_like(near, dtype=torch.bool).scatter(-1, best.indices, best.values > -math.inf)
        chosen = nn.functional.pad(chosen.repeat_interleave(CHUNK, -1), (0, keys.shape[1] - chunks * CHUNK))
        scores = (q @ keys.transpose(1, 2) / math.sqrt(KEY)).masked_fill(~chosen, -math.inf)
        weights = scores.softmax(-1).nan_to_num(0.0)  # nan where nothing is old enough
        return weights @ values, weights

    def forward(self, x: Float[Tensor, "batch time dim"], along: Along) -> Float[Tensor, "batch time dim"]:
        keys, values = along.notes
        old = (torch.arange(x.shape[1], device=x.device) - self.window + 1).clamp(min=0)
        memory = self.found(self.ask(x), keys, values, old)[0]
        local = self.local
        scores = local.q(x) @ local.k(x).transpose(1, 2) / math.sqrt(KEY)
        near = scores.masked_fill(~visible(x.shape[1], self.window, local.sinks, x.device), -math.inf).softmax(-1) @ local.v(x)
        share = self.gate.sigmoid()
        return local.out(share * memory + (1 - share) * near)

    def start(self, batch: int) -> Kept:
        empty = self.local.start(batch)
        return empty | {"bank_keys": empty["keys"], "bank_values": empty["values"]}

    def step(self, x: Float[Tensor, "batch dim"], kept: Kept, along: Along) -> tuple[Float[Tensor, "batch dim"], Kept, Seen]:
        """Seen: `retrieved` (batch, tokens read): the weights over what was found in the bank, 0 to 1; `share` (batch): s; and as `Attention.step`."""
        key, value = along.notes
        keys, values = torch.cat([kept["bank_keys"], key[:, None]], 1), torch.cat([kept["bank_values"], value[:, None]], 1)
        old = torch.tensor([max(0, along.position - self.window + 1)], device=x.device)
        memory, weights = self.found(self.ask(x)[:, None], keys, values, old)
        near, window, seen = self.local.attend(x, kept, along)
        share = self.gate.sigmoid()
        seen |= {"retrieved": weights[:, 0], "share": share.expand(len(x))}
        return self.local.out(share * memory[:, 0] + (1 - share) * near), window | {"bank_keys": keys, "bank_values": values}, seen


class LongMem(Reader):
    """`net` reads as it always did, and is not trained; beside every block of it stands one of the side network, whose output the step of the frozen block
    is added to, and whose last goes through the frozen net's own embedding.

    The paper's side network is half as deep and retrieves in one layer; ours, over two layers, is as deep and retrieves in both.
    Wang et al. 2023, arXiv 2306.07174.
    """

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net.requires_grad_(False)
        self.side = nn.ModuleList()
        for block in net.blocks:
            side = Block(Retrieval(block.mixer), net.embed.embedding_dim, block.up.out_features)  # type: ignore[arg-type,union-attr]
            side.load_state_dict({n: t for n, t in block.state_dict().items() if not n.startswith("mixer.")}, strict=False)
            self.side.append(side)
        self.norm = nn.RMSNorm(net.embed.embedding_dim, eps=1e-5)

    def forward(self, tokens: Int[Tensor, "batch time"], along: Along | None = None) -> Float[Tensor, "batch time tokens"]:
        along = along or Along()
        x = h = self.net.embed(tokens)
        for block, side in zip(self.net.blocks, self.side, strict=True):
            with torch.no_grad():
                inner = block.stem(block.norm(h))  # type: ignore[operator]
                along.notes = block.mixer.k(inner), block.mixer.v(inner)  # type: ignore[operator,union-attr]
                after = block(h, Along())
            x, h = side(x, along) + (after - h), after
        return self.norm(x) @ self.net.embed.weight.T

    def start(self, batch: int) -> State:
        return State(0, self.net.start(batch).kept + tuple(side.start(batch) for side in self.side))  # type: ignore[operator]

    def step(self, state: State, tokens: Int[Tensor, " batch"]) -> tuple[State, Float[Tensor, "batch tokens"]]:
        x = h = self.net.embed(tokens)
        depth, along = len(self.side), Along(state.read)
        frozen, own, seen = [], [], []
        for block, side, mine, beside in zip(self.net.blocks, self.side, state.kept[:depth], state.kept[depth:], strict=True):
            inner, _ = block.stem.step(block.norm(h), mine["stem"])  # type: ignore[operator,union-attr]
            along.notes = block.mixer.k(inner), block.mixer.v(inner)  # type: ignore[operator,union-attr]
            after, new, _ = block.step(h, mine, Along(state.read))  # type: ignore[operator]
            y, newer, look = side.step(x, beside, along)  # type: ignore[operator]
            x, h = y + (after - h), after
            frozen.append(new)
            own.append(newer)
            seen.append(look)
        return State(state.read + 1, (*frozen, *own), tuple(seen)), self.norm(x) @ self.net.embed.weight.T
