"""The score of a prompt, shared out over its tokens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lab.data import Data
from lab.diffusion._ask import Asked, one_prompt
from lab.diffusion._gallery import gallery
from lab.diffusion._sample import batch, start, together
from lab.diffusion._scores import magnitude
from lab.diffusion._similar import ssim
from lab.events import Event, Grid, Progress
from models.model import Model
from models.pipeline import Pipeline, shortened, tokens, words

if TYPE_CHECKING:
    from lab.diffusion.words import WordScores

ROWS = ("gradient at the denoiser", "gradient at the encoder", "score lost without it", "likeness lost without it")  # at most 24 letters are shown


def attribute(settings: WordScores, model: Model, data: Data) -> Iterator[Event]:
    """Yields the grid after every row, and after every token of the last."""
    yield Progress(0, 0, "reading the prompt")
    ask = one_prompt(model, data, settings.prompt, settings.seed, settings.seeds, settings.guidance, settings.steps)
    ids = words(model, ask.prompts, "prompt")
    work = Work(settings, model, ask, tokens(model, ask.prompts[0]))
    for row, found in enumerate((outer(ask, work.latents, work.first), inner(model, ask, ids, work.latents, work.first))):
        work.value[row] = found[: len(work.names)]
        yield work.grid()
        yield Progress(row + 1, 3, "leaving tokens out")
    for i, without in enumerate(left_out(model, ids, len(work.names)), 1):
        with torch.no_grad():
            work.value[2, i] = 1 - float(added(ask.net, ask.net.embed(without), ask.blank, work.latents, work.first).mean()) / max(work.score, 1e-12)
        yield Progress(i, len(work.names) - 2, "leaving tokens out")
    yield work.grid()
    if settings.redraw and len(ask.truth.compared):
        yield from drawn(work, ids)
        yield work.grid()


class Work:
    """What is measured so far: `value` is (rows of the grid, tokens), NaN where nothing is."""

    def __init__(self, settings: WordScores, model: Model, ask: Asked, names: tuple[str, ...]) -> None:
        self.settings, self.model, self.ask, self.names = settings, model, ask, names
        self.latents = start(ask.net, ask.seeds, model.device)
        self.first = ask.net.schedule(ask.steps)[0][0]
        self.value = np.full((4 if settings.redraw and len(ask.truth.compared) else 3, len(names)), np.nan)
        with torch.no_grad():
            scores = added(ask.net, ask.embedding, ask.blank, self.latents, self.first)
        self.score = float(scores.mean())
        self.facts = [f"the text adds noise of norm {self.score:.3f} at the first step, mean over {len(ask.seeds)} noises", *ask.facts]

    def grid(self) -> Grid:
        rows = ROWS[: len(self.value)]
        return Grid(f"{shortened(self.ask.prompts[0], 60)}: which token carries it", rows, tuple(f"{i + 1} {n}" for i, n in enumerate(self.names)), "measure",
                    "token", self.value.copy(), np.full_like(self.value, np.nan), "share", self.settings.direction, tuple(self.facts), diverging=True)


def added(net: Pipeline, embedding: Tensor, blank: Tensor, latents: Tensor, t: float) -> Tensor:
    """Norm of what one prompt adds to the noise seen in each of the latents."""
    n = len(latents)
    with_text, without = net.noise(torch.cat([latents, latents]), t, torch.cat([embedding.expand(n, -1, -1), blank.expand(n, -1, -1)])).chunk(2)
    return magnitude(with_text, without)


def outer(ask: Asked, latents: Tensor, t: float) -> np.ndarray:
    """Every row's share of the gradient's norms, on the embedding."""
    with torch.enable_grad():
        embedding = ask.embedding.detach().clone().requires_grad_()
        (grad,) = torch.autograd.grad(added(ask.net, embedding, ask.blank, latents, t).mean(), embedding)
    return shares(grad[0])


def inner(model: Model, ask: Asked, ids: Tensor, latents: Tensor, t: float) -> np.ndarray:
    """The same on the vectors that the text encoder reads, through a copy whose table gives them a gradient."""
    copy: Any = model.skeleton()
    read: list[Tensor] = []

    def watch(_module: Any, _inputs: Any, out: Tensor) -> Tensor:
        read.append(out.detach().clone().requires_grad_())
        return read[-1]

    copy.get_input_embeddings().register_forward_hook(watch)
    with torch.enable_grad():
        (grad,) = torch.autograd.grad(added(ask.net, copy.embed(ids), ask.blank, latents, t).mean(), read[0])
    return shares(grad[0])


def shares(grad: Tensor) -> np.ndarray:
    """Norm of every row over the sum of all: the tokens that only fill the prompt up keep theirs."""
    size = grad.norm(dim=1).double()
    return (size / size.sum().clamp(min=1e-30)).cpu().numpy()


def left_out(model: Model, ids: Tensor, count: int) -> Iterator[Tensor]:
    """The prompt without each of its tokens but the marks, filled up at the end: (1, tokens) each."""
    pad = model.tokenizer.pad_token_id
    for i in range(1, count - 1):
        yield torch.cat([ids[:, :i], ids[:, i + 1 :], ids.new_full((1, 1), pad)], 1)


def drawn(work: Work, ids: Tensor) -> Iterator[Event]:
    """Draws the picture with all tokens, and then without each, and fills the last row in. Many are drawn at once."""
    ask, n = work.ask, len(work.ask.seeds)
    with torch.no_grad():
        every = torch.cat([ask.embedding, *(ask.net.embed(w) for w in left_out(work.model, ids, len(work.names)))])
    latents = work.latents.repeat(len(every), 1, 1, 1)
    parts = -(-len(latents) // batch(ask.net, latents.device))
    last = None
    for i, step in enumerate(together(ask.net, every.repeat_interleave(n, 0), ask.blank, latents, ask.steps, ask.guidance), 1):
        yield Progress(i, parts * ask.steps, "drawing it without each token")
        last = step or last
    assert last is not None
    with torch.no_grad():
        pictures = torch.cat([ask.net.decode(part) for part in last.latents.split(16)])
        known = gallery(work.model, ask.truth)
        assert known is not None
        found = known.nearest(pictures[:n])
        index = int(np.bincount(found.index).argmax())
        target = known.pictures[index : index + 1]
        score = ssim(pictures, target.expand(len(pictures), -1, -1, -1)).unflatten(0, (len(every), n)).mean(1).double().cpu().numpy()
    work.value[3, 1 : len(work.names) - 1] = (score[0] - score[1:]) / max(abs(score[0]), 1e-12)
    copied = int((found.ssim > ask.truth.threshold).sum())
    work.facts.append(f"{copied} of {n} pictures are copies; nearest is {ask.truth.name(index)}, mean SSIM {score[0]:.2f}")
