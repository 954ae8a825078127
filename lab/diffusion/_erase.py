"""A run of an unlearning loss on the denoising loss."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lab.data import Data
from lab.diffusion import _goal
from lab.diffusion._kept import Kept, loss
from lab.diffusion._loss import denoising, timesteps
from lab.diffusion._scoreboard import LOSS, Scoreboard
from lab.diffusion._tune import Tuned
from lab.events import Event, Progress
from lab.unlearn._formulas import npo
from models.model import Model
from models.pipeline import Pipeline

if TYPE_CHECKING:
    from lab.diffusion.erase import Erase

OFTEN = 0.5  # seconds between two curves
ASCENT, NPO = "gradient ascent", "npo"


def forgetting(method: str, net: Pipeline, reference: Pipeline, latents: Float[Tensor, "n c h w"], embedding: Tensor, t: Int[Tensor, " n"], noise: Tensor,
               beta: float) -> tuple[Tensor, Tensor]:
    """(the term to be minimised, the mean denoising loss L) of forget pictures."""
    mine = denoising(net, latents, embedding, t, noise)
    if method != NPO:
        return -mine.mean(), mine.detach().mean()
    with torch.no_grad():
        before = denoising(reference, latents, embedding, t, noise)
    half = latents[0].numel() / 2
    return npo(half * mine, half * before, beta), mine.detach().mean()


def erase(settings: Erase, model: Model, data: Data) -> Iterator[Event]:
    """Yields curves as they grow, and the model after every measurement."""
    yield Progress(0, settings.length, "reading the captions")
    run = Run(settings, model, data)
    yield from run.board.measure(run.tuned.net)
    yield run.event()
    if run.retains:
        yield from run.board.told(run.kept.prepare(), "reading plain training pictures")
    ended, good = "", run.tuned.keep()
    for step in range(1, settings.length + 1):
        if not run.step():
            run.tuned.restore(good)
            ended = f"not finite: a loss or a weight grew beyond all numbers in step {step}; the last measured one is kept. Try a rate of {settings.lr / 10:g}"
            break
        if step % settings.measure == 0 or step == settings.length:
            yield from run.board.measure(run.tuned.net)
            good = run.tuned.keep()
            yield run.event(f"all {settings.length} steps are done" if step == settings.length else "")
            yield run.board.edited(run.tuned.frozen(f"{settings.method}, {step} steps"))
        elif time.monotonic() - run.shown > OFTEN:
            yield run.event()
        else:
            yield Progress(step, settings.length, f"step {step} of {settings.length}")
    yield run.event(ended or f"all {settings.length} steps are done")


class Run:
    def __init__(self, settings: Erase, model: Model, data: Data) -> None:
        self.settings, self.model = settings, model
        self.asked = asked = _goal.ask(settings, model, data, settings.count)
        self.board = Scoreboard(f"{type(settings).title}: {settings.method}", model, asked, settings.picture, settings.beside, settings.plain, settings.seed)
        self.board.total = settings.length
        self.retains = settings.method != ASCENT and settings.keep > 0
        if self.retains:
            self.kept = Kept(model, asked, settings.seed, settings.spare)
        self.tuned = Tuned(model, settings.lr)
        self.draws = torch.Generator().manual_seed(settings.seed + 1)
        self.latents = torch.stack([g.latent for g in self.board.goals])
        self.shown = 0.0

    def step(self) -> bool:
        """Returns whether all is finite."""
        s, board = self.settings, self.board
        which = torch.randint(len(self.latents), (s.batch,), generator=self.draws)
        t = timesteps(self.tuned.net, (s.batch,), self.draws).to(self.latents.device)
        noise = torch.randn((s.batch, *self.latents.shape[1:]), generator=self.draws).to(self.latents.device)
        term, mine = forgetting(s.method, self.tuned.net, self.asked.net, self.latents[which], self.asked.embedding[which], t, noise, s.beta)
        board.at += 1
        board.cost += 1 + (1 / 3 if s.method == NPO else 0)
        if self.retains:
            kept = loss(self.tuned.net, *self.kept.batch(s.batch), self.draws).mean()
            term = term + s.keep * kept
            board.cost += 1
            board.curves.put(board.at, LOSS, "retain", "down", kept.item())
        board.curves.put(board.at, LOSS, "forget", "up", mine.item())
        return math.isfinite(term.item()) and self.tuned.step(term)

    def event(self, ended: str = "") -> Event:
        self.shown = time.monotonic()
        return self.board.event(self.tuned.change(), ended)
