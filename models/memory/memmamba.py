"""MemMamba: Mamba-2 that takes notes of single tokens, and looks them up, its own and those of the layer below."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from models.memory.mamba2 import Mamba2
from models.memory.mixer import KEY, VALUE, Along, Kept, Mixer, Seen, scatter

SLOTS = 16  # notes in the pool: as many floats as one memory matrix; 50 in the paper
WORTH = 0.1  # tau_1: a token below it is not noted
ASK = 0.1  # tau_2: below it the notes are not asked


@dataclass
class Notes:
    """A pool as seen by the layer above: of every token the notes that may be asked."""

    keys: Tensor  # (batch, notes, KEY)
    values: Tensor  # (batch, notes, VALUE)
    worth: Tensor  # (batch, notes), 0 to 1
    held: Tensor  # (batch, time, notes) in the parallel form, (batch, 1, notes) in a step: whether a note is in the pool


class MemMamba(Mixer):
    """y = Mamba-2(x) + c F_token + c' F_layer: attention over the layer's own pool of notes, and over the pool of the layer below.

    From the paper: a pool of bounded size, a note where the importance I(x) of a token passes tau_1, attention where the state's need passes tau_2,
    and cross-layer attention. **Our interpretation**, for we have not seen the equations themselves: I is a sigmoid of a projection; a note is a key
    and a value; the pool keeps the notes of highest importance (not the last); a note's weight in attention grows with its importance, which is how the
    importance is learned; what the attention says is scaled by the need c (a sigmoid of a projection of Mamba's output), 0 below tau_2; every layer asks the
    layer below, none skipped. Wang et al. 2025, arXiv 2510.03279.
    """

    def __init__(self, dim: int, slots: int = SLOTS, across: bool = True) -> None:
        super().__init__()
        self.slots, self.across = slots, across
        self.mamba, self.importance = Mamba2(dim), nn.Linear(dim, 1)
        self.note_key, self.note_value = nn.Linear(dim, KEY, bias=False), nn.Linear(dim, VALUE, bias=False)
        self.ask, self.need = nn.Linear(dim, KEY * (1 + across), bias=False), nn.Linear(dim, 1 + across)
        self.out = nn.ModuleList(nn.Linear(VALUE, dim, bias=False) for _ in range(1 + across))

    def lookup(self, which: int, x: Tensor, y: Tensor, notes: Notes) -> tuple[Tensor, Tensor, Tensor]:
        """What pool `which` says (batch, time, dim), the need (batch, time), and the attention over its notes (batch, time, notes)."""
        q = self.ask(x).unflatten(-1, (1 + self.across, KEY))[..., which, :]
        scores = q @ notes.keys.transpose(1, 2) / math.sqrt(KEY) + notes.worth.clamp(min=1e-6).log()[:, None]
        weights = scores.masked_fill(~notes.held, -math.inf).softmax(-1).nan_to_num(0.0)  # nan where the pool is empty
        need = self.need(y)[..., which].sigmoid()
        need = need * (need > ASK)
        return need[..., None] * self.out[which](weights @ notes.values), need, weights

    def forward(self, x: Float[Tensor, "batch time dim"], along: Along) -> Float[Tensor, "batch time dim"]:
        worth = self.importance(x)[..., 0].sigmoid()
        own = Notes(self.note_key(x), self.note_value(x), worth, pool(worth, self.slots))
        below, along.notes = along.notes, own
        y = self.mamba(x, along)
        found = self.lookup(0, x, y, own)[0]
        if self.across and below is not None:
            found = found + self.lookup(1, x, y, below)[0]
        return y + found

    def start(self, batch: int) -> Kept:
        new = self.need.weight.new_zeros
        return {"keys": new(batch, self.slots, KEY), "values": new(batch, self.slots, VALUE), "worth": new(batch, self.slots),
                "at": new(batch, self.slots) - 1} | self.mamba.start(batch)

    def step(self, x: Float[Tensor, "batch dim"], kept: Kept, along: Along) -> tuple[Float[Tensor, "batch dim"], Kept, Seen]:
        """Seen: what Mamba-2 shows; `worth` and `need` (batch), 0 to 1; `noted` (batch), 1 where the token entered the pool; `retrieved` (batch, tokens
        read), attention over the layer's own notes; `pool` (batch, slots): which tokens the notes are of, -1 where a slot is empty."""
        y, state, seen = self.mamba.step(x, {"state": kept["state"]}, along)
        worth = self.importance(x)[..., 0].sigmoid()
        held = {n: kept[n] for n in ("keys", "values", "worth", "at")}
        new = {"keys": self.note_key(x), "values": self.note_value(x), "worth": worth, "at": worth.new_full(worth.shape, along.position)}
        least = held["worth"].min(1)  # an empty slot is worth 0
        enters = (worth > WORTH) & (worth > least.values)
        place = enters[:, None] & (torch.arange(self.slots, device=x.device) == least.indices[:, None])
        for name, value in new.items():
            spot = place[..., None] if value.ndim == 2 else place
            held[name] = torch.where(spot, value[:, None], held[name])
        own = Notes(held["keys"], held["values"], held["worth"], (held["at"] >= 0)[:, None])
        below, along.notes = along.notes, own
        found, need, weights = self.lookup(0, x[:, None], y[:, None], own)
        if self.across and below is not None:
            found = found + self.lookup(1, x[:, None], y[:, None], below)[0]
        seen |= {"worth": worth, "need": need[:, 0], "noted": enters.to(x), "pool": held["at"],
                 "retrieved": scatter(weights[:, 0], held["at"], along.position + 1)}
        return y + found[:, 0], held | state, seen


def pool(worth: Float[Tensor, "batch time"], slots: int) -> Bool[Tensor, "batch time time"]:
    """[t, s]: whether the note of token s is in the pool after token t: it passed tau_1, and is among the `slots` of highest worth up to t (of equals, the
    first)."""
    steps = torch.arange(worth.shape[1], device=worth.device)
    before = steps[:, None] >= steps
    better = (worth[:, None] > worth[..., None]) | ((worth[:, None] == worth[..., None]) & (steps < steps[:, None]))  # [s, r]: r is ahead of s
    ahead = better.to(worth.dtype) @ before.T.to(worth.dtype)  # [s, t]: how many up to t are ahead of s
    return (ahead.transpose(1, 2) < slots) & before & (worth > WORTH)[:, None]
