"""A GPT of two layers, its training, and what is measured of it as it goes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lab.attention._repeat_corpus import CHAINS, COPIES, SYMBOLS, TOKENS, Corpus

LAYERS, HEADS, WIDTH = 2, 4, 64
LR_MATRIX, LR_REST = 0.02, 3e-3  # those of the lab's organisms: Muon on the matrices, AdamW on the rest
RISE = 50  # steps of a rising rate; then it falls to zero, linearly
CHUNK = 128  # documents of a measuring pass, so that no pass is long
POOLED = 256  # documents of the pool that are measured, at most


def new_net(seed: int) -> Any:
    """A GPT-2 from its configuration alone, no dropout, weights drawn from a generator of `seed`."""
    from transformers import GPT2Config, GPT2LMHeadModel

    net: Any = GPT2LMHeadModel(GPT2Config(vocab_size=SYMBOLS, n_positions=TOKENS, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS, resid_pdrop=0.0,
                                          embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in net.named_parameters():
            if p.ndim == 2:  # gains are 1 and biases 0 already
                p.normal_(0, 0.02 / (2 * LAYERS) ** 0.5 if name.endswith("c_proj.weight") else 0.02, generator=generator)
    return net


def rate(step: int, steps: int) -> float:
    """Share of the full learning rate at a step, counted from 0."""
    return min(1.0, (step + 1) / RISE) * (1 - step / steps)


class Trainer:
    """`step` trains on one batch of the corpus."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus, self.net, self.done = corpus, new_net(corpus.seed), 0
        named = dict(self.net.named_parameters())
        matrices = [p for n, p in named.items() if p.ndim == 2 and not n.endswith(("wte.weight", "wpe.weight"))]
        rest = [p for n, p in named.items() if p.ndim != 2 or n.endswith(("wte.weight", "wpe.weight"))]
        self.optimizers = (torch.optim.Muon(matrices, lr=LR_MATRIX, weight_decay=0.01),
                           torch.optim.AdamW(rest, lr=LR_REST, betas=(0.9, 0.98), weight_decay=0.0))

    def step(self) -> None:
        """The loss is the sum over all tokens over the tokens of a full batch: places that stay empty weigh nothing, and leave the others their weight."""
        losses = nll(self.net, self.corpus.batch(self.done))
        (losses.sum() / ((CHAINS + COPIES) * (TOKENS - 1))).backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        for optimizer, lr in zip(self.optimizers, (LR_MATRIX, LR_REST), strict=True):
            optimizer.param_groups[0]["lr"] = lr * rate(self.done, self.corpus.steps)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.done += 1


def nll(net: Any, docs: Tensor) -> Float[Tensor, "docs predicted"]:
    """Nats of every token but the first, each given those before it."""
    logits = net(input_ids=docs).logits[:, :-1]
    return nn.functional.cross_entropy(logits.transpose(1, 2), docs[:, 1:], reduction="none")


@dataclass(frozen=True)
class Loss:
    """Nats a token, mean over documents and its standard error; NaN where there are no documents."""

    mean: float
    error: float


def loss_of(net: Any, docs: Tensor, counted: Tensor | None = None) -> Iterator[Loss | None]:
    """Yields None after every chunk, and last the loss on `docs` (docs, tokens); `counted` (docs, predicted) marks the tokens that count."""
    sums, counts = [], []
    for first in range(0, len(docs), CHUNK):
        with torch.no_grad():
            found = nll(net, docs[first : first + CHUNK])
        mine = torch.ones_like(found) if counted is None else counted[first : first + CHUNK].to(found)
        sums.append((found * mine).sum(1))
        counts.append(mine.sum(1))
        yield None
    if not sums:
        yield Loss(float("nan"), float("nan"))
        return
    total, count = torch.cat(sums).double(), torch.cat(counts).double()
    mean = total.sum() / count.sum()
    spread = (total - mean * count).square().sum().sqrt() / count.sum()  # of a ratio of sums over documents
    yield Loss(float(mean), float(spread))


def copied(periods: Tensor) -> Tensor:
    """(docs, predicted): the tokens that a reader can know from a copy before: all after the first of the second copy."""
    return torch.arange(1, TOKENS) > periods[:, None]


@dataclass(frozen=True)
class Point:
    """What one measurement found, after `step` steps."""

    step: int
    held: Loss  # chain documents that nobody trained on
    pool: Loss  # documents of the pool; NaN where there is none
    copy: Loss  # copy documents that nobody trained on, where they repeat


def measure(trainer: Trainer) -> Iterator[Point | None]:
    """Yields None as it goes, and last the point."""
    docs, periods = trainer.corpus.held_copies
    found = []
    for read, counted in ((trainer.corpus.held, None), (trainer.corpus.pool_docs[:POOLED], None), (docs, copied(periods))):
        loss = None
        for loss in loss_of(trainer.net, read, counted):
            if loss is None:
                yield None
        assert loss is not None
        found.append(loss)
    yield Point(trainer.done, *found)


def train(trainer: Trainer, every: int) -> Iterator[Point | None]:
    """Trains to the end: yields None after every piece of work, and a point before the first step, after every `every` of them, and after the last."""
    yield from measure(trainer)
    while trainer.done < trainer.corpus.steps:
        trainer.step()
        yield None
        if trainer.done % every == 0 or trainer.done == trainer.corpus.steps:
            yield from measure(trainer)
