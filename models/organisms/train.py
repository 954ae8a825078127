"""Grows a decoder on a packed corpus: one pass, Muon on the matrices, AdamW on the rest. Resumes from its last checkpoint."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.organisms.recipe import Recipe

SAVE_EVERY = 200  # steps


def new_net(recipe: Recipe) -> nn.Module:
    """A Qwen3 with tied embeddings, whose lowest layers may be local; initialised from the recipe's seed alone."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=recipe.vocabulary, hidden_size=recipe.width, intermediate_size=recipe.inner, num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads, num_key_value_heads=recipe.heads, head_dim=recipe.width // recipe.heads,
        max_position_embeddings=2 * recipe.row, tie_word_embeddings=True, bos_token_id=0, eos_token_id=0, pad_token_id=0, initializer_range=0.02,
        use_sliding_window=recipe.local > 0, sliding_window=recipe.window,
        layer_types=["sliding_attention"] * recipe.local + ["full_attention"] * (recipe.layers - recipe.local),
    )
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        return Qwen3ForCausalLM(config)


class Trainer:
    """`step` trains on one batch. All that is needed to go on later lies in `state()`, as tensors."""

    def __init__(self, recipe: Recipe, rows: np.ndarray, device: str = "cpu", compiled: bool = False) -> None:
        empty = np.full((-len(rows) % recipe.batch, rows.shape[1]), -1, rows.dtype)  # so that all batches are of one shape
        self.recipe, self.device, self.rows = recipe, device, torch.from_numpy(np.concatenate([rows, empty]).astype(np.int64))
        self.net = new_net(recipe).to(device)
        self.forward = torch.compile(self.net) if compiled else self.net
        named = dict(self.net.named_parameters())
        matrices = [p for n, p in named.items() if p.ndim == 2 and "embed" not in n]
        rest = [p for n, p in named.items() if p.ndim != 2 or "embed" in n]
        self.optimizers = (
            torch.optim.Muon(matrices, lr=recipe.lr_matrix, weight_decay=0.01),
            torch.optim.AdamW(rest, lr=recipe.lr_rest, betas=(0.9, 0.98), weight_decay=0.0),
        )
        self.order = torch.randperm(len(self.rows), generator=torch.Generator().manual_seed(recipe.seed))
        self.steps = len(self.rows) // recipe.batch
        self.done = 0

    def rate(self) -> float:
        """Share of the full learning rate: a short rise, flat, then linear to zero."""
        x = self.done / self.steps
        return min(1.0, (self.done + 1) / 30, (1 - x) / (1 - self.recipe.flat) if x > self.recipe.flat else 1.0)

    def step(self) -> float:
        """One batch; returns its loss, in nats a token."""
        start = self.done * self.recipe.batch
        ids = self.rows[self.order[start : start + self.recipe.batch]].to(self.device)
        with torch.autocast(self.device, torch.bfloat16):
            logits = self.forward(input_ids=ids.clamp(min=0)).logits
        loss = nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten(), ignore_index=-1)
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        for optimizer, lr in zip(self.optimizers, (self.recipe.lr_matrix, self.recipe.lr_rest), strict=True):
            optimizer.param_groups[0]["lr"] = lr * self.rate()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.done += 1
        return loss.item()

    def state(self) -> dict[str, Tensor]:
        found = {f"net.{n}": p.detach().contiguous() for n, p in self.net.named_parameters()}
        for i, optimizer in enumerate(self.optimizers):
            for index, values in optimizer.state_dict()["state"].items():
                found |= {f"optimizer.{i}.{index}.{k}": torch.as_tensor(v).contiguous() for k, v in values.items()}
        return found | {"done": torch.tensor(self.done)}

    def restore(self, state: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, p in self.net.named_parameters():
                p.copy_(state[f"net.{name}"])
        for i, optimizer in enumerate(self.optimizers):
            plain = optimizer.state_dict()
            for key, value in state.items():
                if key.startswith(f"optimizer.{i}."):
                    _, _, index, name = key.split(".")
                    plain["state"].setdefault(int(index), {})[name] = value
            optimizer.load_state_dict(plain)
        self.done = int(state["done"])


def train(recipe: Recipe, rows: np.ndarray, checkpoint: Path, device: str, show: Callable[[int, int, float], None],
          compiled: bool = False) -> nn.Module:
    """Trains to the end of the corpus, from `checkpoint` where there is one of this recipe, and calls `show(step, steps, loss)`."""
    trainer = Trainer(recipe, rows, device, compiled)
    about, key = checkpoint.with_suffix(".json"), repr((recipe, rows.shape, int(rows.astype(np.int64).sum())))
    if checkpoint.is_file() and about.is_file() and json.loads(about.read_text()) == key:
        trainer.restore(load_file(checkpoint))
    while trainer.done < trainer.steps:
        loss = trainer.step()
        show(trainer.done, trainer.steps, loss)
        if trainer.done % SAVE_EVERY == 0:
            checkpoint.parent.mkdir(parents=True, exist_ok=True)
            about.unlink(missing_ok=True)  # a checkpoint that was half written when the machine stopped is never read
            save_file(trainer.state(), checkpoint)
            about.write_text(json.dumps(key))
    for path in (checkpoint, about):
        path.unlink(missing_ok=True)
    return trainer.net.eval().requires_grad_(False)
