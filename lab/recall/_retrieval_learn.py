"""What is read off the model, and the networks that learn to imitate the retriever."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lab.recall._retrieval_texts import Rows
from models.memory.imitation import MemoryDecoder, MLPMemory, imitation
from models.memory.knn_lm import Neighbours, Store, search

BATCH, CHUNK, RATE = 8, 16, 2e-3
LAYERS = 2


@dataclass(frozen=True)
class Said:
    """Of every predicted token: the state before it, and the model's log-probability of it."""

    states: Float[Tensor, "tokens dim"]
    log: Float[Tensor, " tokens"]


def heard(net: Any, rows: Rows) -> Iterator[Said | None]:
    """Yields None as it goes, and last what the model makes of the rows."""
    states, logs = [], []
    for ids, counted in zip(rows.ids.split(CHUNK), rows.counted.split(CHUNK), strict=True):
        with torch.no_grad():
            found = net(input_ids=ids.to(net.device), output_hidden_states=True)
        states.append(found.hidden_states[-1][:, :-1].float().cpu()[counted])
        log = found.logits[:, :-1].float().cpu()[counted].log_softmax(1)
        logs.append(log.gather(1, ids[:, 1:][counted][:, None])[:, 0])
        yield None
    yield Said(torch.cat(states), torch.cat(logs))


def usual_distance(store: Store, sample: int = 512) -> float:
    """The median squared distance of an entry to the nearest other, over the first entries."""
    some = store.keys[:sample]
    distance = torch.cdist(some, store.keys).square()
    distance[torch.arange(len(some)), torch.arange(len(some))] = torch.inf
    return max(float(distance.min(1).values.median()), 1e-6)


@dataclass
class Student:
    """A network that learns what follows, from the retriever and the text, or (`share` 0) from the text alone."""

    name: str
    net: nn.Module
    share: float

    @property
    def bytes(self) -> int:
        return sum(p.numel() * p.element_size() for p in self.net.parameters())

    @property
    def multiplications(self) -> int:
        """A token: the weights that it is multiplied with, the readout among them; a decoder's attention to what stands before comes on top and is small."""
        return sum(p.numel() for n, p in self.net.named_parameters() if p.ndim == 2 and n != "places")

    def logits(self, rows: Rows, states: Tensor) -> Float[Tensor, "tokens vocabulary"]:
        if isinstance(self.net, MemoryDecoder):
            return self.net(rows.ids)[:, :-1][rows.counted]
        return self.net(states)

    def of(self, rows: Rows, states: Tensor) -> Float[Tensor, " tokens"]:
        """The probability of each token that came."""
        found = []
        parts = states.split([int(c.sum()) for c in rows.counted.split(CHUNK)])
        with torch.no_grad():
            for ids, counted, mine in zip(rows.ids.split(CHUNK), rows.counted.split(CHUNK), parts, strict=True):
                part = Rows(ids, counted)
                found.append(self.logits(part, mine).softmax(1).gather(1, part.target[:, None])[:, 0])
        return torch.cat(found)


def students(table: Float[Tensor, "tokens dim"], share: float, seed: int) -> list[Student]:
    """Both networks, each twice, with the same weights to begin with."""
    made = []
    for name, kind in (("Memory Decoder", MemoryDecoder), ("MLP Memory", MLPMemory)):
        for label, mine in ((name, share), (f"{name}, text alone", 0.0)):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                net: nn.Module = MemoryDecoder(table, LAYERS) if kind is MemoryDecoder else MLPMemory(table, 3 * table.shape[1], LAYERS)
            made.append(Student(label, net, mine))
    return made


def train(student: Student, rows: Rows, states: Tensor, near: Neighbours, steps: int, seed: int) -> Iterator[int]:
    """Yields the number of steps done, after each. `near` is what the retriever says about every predicted token of the rows, itself left out."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(student.net.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.01)
    first = torch.cat([torch.zeros(1, dtype=torch.long), rows.counted.sum(1).cumsum(0)])
    for step in range(steps):
        chosen = torch.randint(0, len(rows.ids), (min(BATCH, len(rows.ids)),), generator=generator)
        part = Rows(rows.ids[chosen], rows.counted[chosen])
        tokens = torch.cat([torch.arange(int(first[r]), int(first[r + 1])) for r in chosen])
        loss = imitation(student.logits(part, states[tokens]), Neighbours(near.tokens[tokens], near.shares[tokens]), part.target, student.share)
        loss.backward()
        nn.utils.clip_grad_norm_(student.net.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = RATE * min(1.0, (step + 1) / 10) * (1 - step / steps)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield step + 1


def retriever(store: Store, near: int, temperature: float) -> Neighbours:
    """What the retriever says about every entry of its own store, that entry left out."""
    return search(store, store.keys, near, temperature, own=torch.arange(len(store.keys)))


def table_of(net: Any) -> Float[Tensor, "tokens dim"]:
    """The readout of the model, a copy in single precision."""
    weight: Tensor = net.get_output_embeddings().weight
    return weight.detach().float().cpu().clone()


def entries(rows: Rows, said: Said) -> Store:
    target: Int[Tensor, " tokens"] = rows.target
    return Store(said.states, target)
