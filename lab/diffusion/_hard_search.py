"""Greedy coordinate gradient over prompts of real tokens (Zou et al. 2023), on the denoising loss of a picture."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lab.diffusion._loss import denoising, timesteps
from lab.diffusion._sample import batch as fits
from models.errors import BadInput
from models.model import Model
from models.pipeline import Pipeline


class Reader:
    """A private text encoder that can be told what stands in the place of the tokens' embeddings, and which tokens can be typed."""

    def __init__(self, model: Model, count: int) -> None:
        """`count` free tokens a prompt. Raises `BadInput` where that is too many, or where the model reads with two text encoders."""
        self.net: Pipeline = model.skeleton()  # type: ignore[assignment]
        if self.net.text_2 is not None:
            raise BadInput(f"{model.name} reads a prompt with two text encoders", "the search goes through one", "Choose a model of the Stable Diffusion 1 or "
                           "2 class", setting="model")
        if count > self.net.length - 2:
            raise BadInput(f"{count} tokens", f"{model.name} reads {self.net.length} with the two marks around them", f"Take {self.net.length - 2} or fewer",
                           setting="words")
        self.tokenizer, self.count, self.device = model.tokenizer, count, model.device
        self.table: Float[Tensor, "words width"] = self.net.get_input_embeddings().weight
        self.given: Tensor | None = None
        self.net.get_input_embeddings().register_forward_hook(lambda module, args, out: out if self.given is None else self.given)
        self.begin, self.end = self.tokenizer("").input_ids[0], self.tokenizer("").input_ids[-1]
        self.typed = typed(self.tokenizer, len(self.table)).to(self.device)

    def whole(self, free: Int[Tensor, "n free"]) -> Int[Tensor, "n tokens"]:
        """The ids of a prompt with its marks, filled up."""
        n = len(free)
        pad = self.tokenizer.pad_token_id
        row = free.new_full((n, self.net.length), self.end if pad is None else pad)
        row[:, 0], row[:, 1 : 1 + self.count], row[:, 1 + self.count] = self.begin, free, self.end
        return row

    def read(self, free: Int[Tensor, "n free"]) -> Float[Tensor, "n rows width"]:
        """The embeddings of prompts."""
        self.given = None
        with torch.no_grad():
            return self.net.embed(self.whole(free))

    def through(self, free: Int[Tensor, "1 free"], tokens: Float[Tensor, "1 free width"]) -> Float[Tensor, "1 rows width"]:
        """The same for tokens' embeddings in the place of those of `free`, so that it can be differentiated in them."""
        ids = self.whole(free)
        self.given = torch.cat([self.table[ids[:, :1]], tokens, self.table[ids[:, 1 + self.count :]]], 1)
        try:
            return self.net.embed(ids)
        finally:
            self.given = None

    def text(self, free: Int[Tensor, " free"]) -> str:
        return " ".join(self.tokenizer.decode([i]).strip() for i in free.tolist())


def typed(tokenizer: Any, size: int) -> Bool[Tensor, " words"]:
    """(size,): which tokens come back as themselves when their text is typed alone."""
    special = set(tokenizer.all_special_ids)
    texts = [tokenizer.decode([i]).strip() for i in range(size)]
    ids = tokenizer(texts, add_special_tokens=False).input_ids
    return torch.tensor([i not in special and bool(texts[i]) and ids[i] == [i] for i in range(size)])


class Search:
    """`free` (count,) are the tokens so far; `loss` that of the last step."""

    def __init__(self, net: Pipeline, reader: Reader, latent: Float[Tensor, "c h w"], banned: Sequence[int], seed: int, *, tries: int, near: int, batch: int,
                 ) -> None:
        self.net, self.reader, self.latent = net, reader, latent
        self.draw = torch.Generator().manual_seed(seed)
        self.tries, self.near, self.batch = tries, near, batch
        self.allowed = reader.typed.clone()
        self.allowed[list(banned)] = False
        words = self.allowed.nonzero()[:, 0]
        if not len(words):
            raise BadInput("no token is left to search with", "the caption's own words are all that can be typed", "Allow the caption's words", setting="own")
        self.free: Int[Tensor, " free"] = words[torch.randint(len(words), (reader.count,), generator=self.draw).to(words.device)]
        self.loss = float("nan")

    def losses(self, embedding: Float[Tensor, "n rows width"], t: Tensor, noise: Tensor) -> Float[Tensor, " n"]:
        """The mean loss of every embedding at the same noises."""
        n, m = len(embedding), len(t)
        each = denoising(self.net, self.latent.expand(n * m, -1, -1, -1), embedding.repeat_interleave(m, 0), t.repeat(n), noise.repeat(n, 1, 1, 1))
        return each.view(n, m).mean(1)

    def slopes(self, t: Tensor, noise: Tensor) -> Float[Tensor, "free words"]:
        """What the loss would change by, to first order, if a token took the place of the one that is there."""
        with torch.enable_grad():
            tokens = self.reader.table[self.free][None].detach().requires_grad_()
            loss = self.losses(self.reader.through(self.free[None], tokens), t, noise).sum()
            grad = torch.autograd.grad(loss, tokens)[0][0]
        return grad @ self.reader.table.T - (grad * self.reader.table[self.free]).sum(1, keepdim=True)

    def step(self) -> Generator[None, None, None]:
        """Yields between batches."""
        device = self.latent.device
        t = timesteps(self.net, (self.batch,), self.draw).to(device)
        noise = torch.randn((self.batch, *self.latent.shape), generator=self.draw).to(device)
        slopes = self.slopes(t, noise).masked_fill(~self.allowed, torch.inf)
        yield
        best = slopes.topk(min(self.near, int(self.allowed.sum())), largest=False).indices  # (free, near)
        rows = self.free.repeat(self.tries + 1, 1)
        place = torch.randint(len(self.free), (self.tries,), generator=self.draw).to(device)
        which = torch.randint(best.shape[1], (self.tries,), generator=self.draw).to(device)
        rows[torch.arange(self.tries, device=device), place] = best[place, which]  # the last row is the prompt as it is
        size, found = max(1, fits(self.net, device) // self.batch), []
        embedding = self.reader.read(rows)
        for part in embedding.split(size):
            with torch.no_grad():
                found.append(self.losses(part, t, noise))
            yield
        losses = torch.cat(found)
        at = int(losses.argmin())
        self.free, self.loss = rows[at].clone(), float(losses[at])
