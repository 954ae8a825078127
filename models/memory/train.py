"""The one recipe that every memory is grown with: recall of pairs, more of them as it goes, and passkeys."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.memory import tasks
from models.memory.mixer import Along
from models.memory.net import Reader


@dataclass(frozen=True)
class Recipe:
    """Tokens read: steps x batch x length, the same for all. Three of four sequences hold pairs, `least` at first and up to `most`; the fourth a passkey."""

    steps: int = 900
    batch: int = 32
    length: int = 128
    least: int = 2
    most: int = 24  # pairs in a sequence
    climb: float = 0.5  # of the steps, until as many as `most` are asked
    rate_matrix: float = 0.02  # of Muon, on the matrices
    rate: float = 3e-3  # of AdamW, on the rest
    rise: int = 40  # steps of a rising rate; then a half cosine to zero


def parts(net: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """What Muon trains, the matrices that map activations, and what AdamW does."""
    trained = {n: p for n, p in net.named_parameters() if p.requires_grad}
    matrices: list[Tensor] = [p for n, p in trained.items() if p.ndim == 2 and min(p.shape) > 4 and "embed" not in n]
    return matrices, [p for p in trained.values() if not any(p is m for m in matrices)]


class Trainer:
    """`step` trains on one batch; the batches are drawn from the seed alone, so that all memories read the same."""

    def __init__(self, net: Reader, recipe: Recipe, seed: int, device: str = "cpu") -> None:
        self.net, self.recipe, self.device, self.done = net.to(device).train(), recipe, device, 0
        self.generator = torch.Generator().manual_seed(seed)
        matrices, rest = parts(net)
        self.optimizers = ((torch.optim.Muon(matrices, lr=recipe.rate_matrix, weight_decay=0.01), recipe.rate_matrix),
                           (torch.optim.AdamW(rest, lr=recipe.rate, betas=(0.9, 0.98), weight_decay=0.0), recipe.rate))

    def batch(self) -> tasks.Batch:
        r, g = self.recipe, self.generator
        most = round(r.least + (r.most - r.least) * min(1.0, self.done / (r.climb * r.steps)))
        pairs = int(torch.randint(max(1, most // 3), most + 1, (), generator=g))
        spread = int(torch.randint(0, max(1, (r.length - 1 - 3 * pairs) // 2), (), generator=g))
        return tasks.together(tasks.associations(r.batch * 3 // 4, r.length, pairs, g, spread), tasks.passkeys(r.batch - r.batch * 3 // 4, r.length, g))

    def step(self) -> tuple[float, float]:
        """The mean loss of the answers in nats, and the share that was right."""
        r, batch, along = self.recipe, self.batch(), Along()
        asked = batch.target >= 0
        logits = self.net(batch.tokens.to(self.device), along)[asked.to(self.device)]
        target = batch.target[asked].to(self.device)
        loss = nn.functional.cross_entropy(logits, target)
        (loss + sum(along.losses)).backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        share = min(1.0, (self.done + 1) / r.rise) * (1 + math.cos(math.pi * self.done / r.steps)) / 2
        for optimizer, rate in self.optimizers:
            optimizer.param_groups[0]["lr"] = rate * share
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.done += 1
        return loss.item(), (logits.argmax(1) == target).float().mean().item()


def train(trainer: Trainer) -> Iterator[tuple[float, float]]:
    """To the end, one step at a time."""
    while trainer.done < trainer.recipe.steps:
        yield trainer.step()
