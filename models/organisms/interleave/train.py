"""Trains a net on one task or both, with or without the AIA term: Muon on the matrices, AdamW on the rest, float32."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from models.organisms.interleave.aia import aia_loss, deltas, intensity, open_patterns
from models.organisms.interleave.pictures import CELLS, pictures
from models.organisms.interleave.recipe import WEIGHT, Recipe
from models.organisms.interleave.tokens import Rows, rows, vocabulary

LONGEST = 2 * CELLS
Targets = Mapping[str, Tensor]  # task -> (layers,)


def new_net(recipe: Recipe) -> Any:
    """A Qwen3 with tied embeddings, initialised from the recipe's seed alone."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=len(vocabulary()), hidden_size=recipe.width, intermediate_size=recipe.inner, num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads, num_key_value_heads=recipe.heads, head_dim=recipe.width // recipe.heads,
        max_position_embeddings=LONGEST, tie_word_embeddings=True, bos_token_id=0, eos_token_id=0, pad_token_id=0, initializer_range=0.02,
    )
    net: Any = Qwen3ForCausalLM(config)
    generator = torch.Generator().manual_seed(recipe.seed)  # not torch's own, which other threads may be drawing from
    with torch.no_grad():
        for p in net.parameters():
            p.normal_(0.0, config.initializer_range, generator=generator) if p.ndim == 2 else p.fill_(1.0)
    return net


@dataclass(frozen=True)
class Step:
    """What one step saw: for each task its loss in nats an answer token, its intensities (layers,), and its AIA loss (0 without a target)."""

    loss: dict[str, float]
    intensity: dict[str, list[float]]
    aia: dict[str, float]


def forward(net: Any, batch: Rows) -> tuple[Tensor, Tensor]:
    """Mean loss of the answer tokens, in nats, and the intensities (layers,); both carry gradients."""
    out = net(input_ids=batch.ids, output_attentions=True, use_cache=False)
    kept = batch.answer[:, 1:]
    loss = nn.functional.cross_entropy(out.logits[:, :-1][kept], batch.ids[:, 1:][kept])
    return loss, intensity(out.attentions, batch.queries, batch.other)


@dataclass
class Trainer:
    """`step()` trains on one batch of each task. `train` are the rows of each; by default all pictures of the split "train"."""

    recipe: Recipe
    targets: Targets = field(default_factory=dict)
    net: Any = None
    train: Mapping[str, Rows] = field(default_factory=dict)
    done: int = 0

    def __post_init__(self) -> None:
        self.net = self.net if self.net is not None else new_net(self.recipe)
        open_patterns(self.net)
        self.net.train()
        chosen = [p for p in pictures() if p.split == "train"]
        self.train = self.train or {task: rows(task, chosen) for task in self.recipe.tasks}
        self.random = torch.Generator().manual_seed(self.recipe.seed)
        self.waiting = {task: torch.empty(0, dtype=torch.long) for task in self.train}
        named = dict(self.net.named_parameters())
        matrices = [p for n, p in named.items() if p.ndim == 2 and "embed" not in n]
        rest = [p for n, p in named.items() if p.ndim != 2 or "embed" in n]
        self.optimizers = (torch.optim.Muon(matrices, lr=self.recipe.lr_matrix, weight_decay=0.01),
                           torch.optim.AdamW(rest, lr=self.recipe.lr_rest, betas=(0.9, 0.98), weight_decay=0.0))

    def rate(self) -> float:
        """Share of the full learning rate: a short rise, flat, then linear to zero."""
        x, flat = self.done / self.recipe.steps, self.recipe.flat
        return min(1.0, (self.done + 1) / 30, (1 - x) / (1 - flat) if x > flat else 1.0)

    def draw(self, task: str) -> Rows:
        """The next batch: every row once in an order of its own, then all again in another."""
        while len(self.waiting[task]) < self.recipe.batch:
            order = torch.randperm(len(self.train[task].ids), generator=self.random)
            self.waiting[task] = torch.cat([self.waiting[task], order])
        index, self.waiting[task] = self.waiting[task].split([self.recipe.batch, len(self.waiting[task]) - self.recipe.batch])
        return self.train[task].take(index)

    def step(self) -> Step:
        seen = Step({}, {}, {})
        for task in self.train:
            self.read(task, seen)
        self.update()
        return seen

    def read(self, task: str, seen: Step) -> None:
        """Adds the gradients of one batch of `task`, and to `seen` what it saw."""
        loss, found = forward(self.net, self.draw(task))
        seen.loss[task], seen.intensity[task], seen.aia[task] = loss.item(), found.tolist(), 0.0
        if task in self.targets:
            pull = aia_loss(found, self.targets[task], deltas(task, len(found)))
            seen.aia[task] = pull.item()
            loss = loss + self.recipe.aia * WEIGHT[task] * pull
        loss.backward()

    def update(self) -> None:
        """One step of both optimizers with the gradients that were added up."""
        nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        for optimizer, lr in zip(self.optimizers, (self.recipe.lr_matrix, self.recipe.lr_rest), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = lr * self.rate()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.done += 1


def train(recipe: Recipe, targets: Targets, show: Callable[[int, Step], None] = lambda *_: None) -> Any:
    """The trained net, frozen."""
    trainer = Trainer(recipe, targets)
    while trainer.done < recipe.steps:
        show(trainer.done, trainer.step())
    return trainer.net.eval().requires_grad_(False)
