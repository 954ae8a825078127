"""A run that changes prompts before they are drawn."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lab.data import Data
from lab.diffusion import _goal
from lab.diffusion._album import Album
from lab.diffusion._goal import draw, likeness
from lab.diffusion._localize import others
from lab.diffusion._sample import batch as fits
from lab.diffusion._sample import start
from lab.events import Curves, Event, Progress, Table
from lab.progress import retold
from models.errors import BadInput
from models.model import Model
from models.pipeline import Pipeline, words

if TYPE_CHECKING:
    from lab.diffusion.perturb import Perturb


class Milder:
    """`y` (prompts, rows, width) are the embeddings so far; `norm[i]` (prompts,) what each added after i steps."""

    def __init__(self, net: Pipeline, embedding: Float[Tensor, "n rows width"], blank: Float[Tensor, "1 rows width"], latents: Float[Tensor, "m c h w"],
                 t: float, lr: float) -> None:
        self.net, self.latents, self.t = net, latents, t
        self.y = embedding.detach().clone()
        self.adam = torch.optim.AdamW([self.y], lr)
        with torch.no_grad():
            self.without = net.noise(latents, t, blank.expand(len(latents), -1, -1))
        self.norm: list[Float[Tensor, " n"]] = []
        self.size = max(1, fits(net, latents.device) // len(latents))

    def added(self, y: Float[Tensor, "n rows width"]) -> Float[Tensor, " n"]:
        """Mean over the noises of the norm of what each text adds to the noise. Differentiable in `y`."""
        n, m = len(y), len(self.latents)
        noise = self.net.noise(self.latents.repeat(n, 1, 1, 1), self.t, y.repeat_interleave(m, 0)).view(n, m, -1)
        return (noise - self.without.flatten(1)).norm(dim=2).mean(1)

    def step(self, target: float, last: bool = False) -> Generator[None, None, None]:
        """Reads the norms, and moves all prompts whose norm is above the target, unless this is the `last` look. What begins a prompt stays."""
        grad, norms = torch.zeros_like(self.y), []
        for i in range(0, len(self.y), self.size):
            part = slice(i, i + self.size)
            with torch.enable_grad():
                y = self.y[part].detach().requires_grad_()
                each = self.added(y)
                grad[part] = torch.autograd.grad(each.sum(), y)[0]
            norms.append(each.detach())
            yield
        self.norm.append(torch.cat(norms))
        if last:
            return
        before, above = self.y.clone(), self.norm[-1] > target
        # a small gradient is scaled up: AdamW goes by its rate whatever the size, but for what it adds against division by zero
        self.y.grad = grad / grad.flatten(1).norm(dim=1).clamp(min=1e-30)[:, None, None]
        self.adam.step()
        self.y[~above] = before[~above]
        self.y[:, 0] = before[:, 0]


def perturb(settings: Perturb, model: Model, data: Data) -> Iterator[Event]:
    """Yields pictures as they are, and the figure after the change."""
    yield Progress(0, settings.length, "reading the prompts")
    run = Run(settings, model, data)
    a = run.asked
    before = yield from run.told(draw(a.net, run.embedding, a.blank, a.seeds, a.steps, a.guidance), 0, "drawing as it is")
    run.take("as asked", before)
    yield run.album.event(a.facts)
    target = yield from run.aim()
    for i in range(settings.length + 1):
        yield from run.told(run.work.step(target, i == settings.length), i, f"step {i} of {settings.length}")
        if settings.show == "norm":
            yield run.curves()
        if bool((run.work.norm[-1] <= target).all()):
            break
    after = yield from run.told(draw(a.net, run.work.y, a.blank, a.seeds, a.steps, a.guidance), settings.length, "drawing")
    run.take("perturbed", after)
    yield run.curves() if settings.show == "norm" else run.table() if settings.show == "table" else run.album.event(run.facts())


class Run:
    def __init__(self, settings: Perturb, model: Model, data: Data) -> None:
        self.settings, self.model = settings, model
        self.asked = asked = _goal.ask(settings, model, data, settings.count)
        self.goals = _goal.goals(asked, model)
        self.n = len(asked.prompts)
        _, self.plain = others(asked, settings.plain)
        with torch.no_grad():
            self.embedding = asked.net.embed(words(model, (*asked.prompts, *self.plain)))
        self.t = asked.net.schedule(asked.steps)[0][0]
        self.latents = start(asked.net, asked.seeds, model.device)
        self.work = Milder(asked.net, self.embedding, asked.blank, self.latents, self.t, settings.lr)
        rows = (*asked.prompts, *self.plain)
        self.album = Album("Before and after the change", rows, [f"seed {s}" for s in asked.seeds], ("prompt as", "prompt", "noise"), asked.truth, model)
        self.drawn: list[Tensor] = []
        self.target = settings.target

    def told(self, run: Generator[None, None, object], step: int, note: str) -> Generator[Event, None, Tensor]:
        return (yield from retold(run, lambda _: Progress(step, self.settings.length, note)))  # type: ignore[return-value]

    def take(self, frame: str, drawn: Tensor) -> None:
        self.drawn.append(drawn)
        self.album.add(frame, drawn)

    def aim(self) -> Generator[Event, None, float]:
        """The norm to come down to: that which was given, or the mean of plain captions."""
        if not self.target:
            plain = _goal.plain(self.asked, self.model)[:32]
            with torch.no_grad():
                embedding = self.asked.net.embed(words(self.model, plain))
                found = []
                for row in embedding.split(self.work.size):
                    found.append(self.work.added(row))
                    yield Progress(0, self.settings.length, "norms of plain captions")
            self.target = float(torch.cat(found).mean())
            if not self.target > 0:
                raise BadInput("plain captions add nothing to the noise", "the model does not listen to its text", "Give a target", setting="target")
        return self.target

    def curves(self) -> Curves:
        value = torch.stack(self.work.norm).double().cpu().numpy().T
        value = np.concatenate([value, np.full((1, value.shape[1]), self.target)])
        return Curves("What the text adds to the noise at the first step", (*self.album.rows, "target"), np.arange(value.shape[1], dtype=float), "step", value,
                      np.full(value.shape, np.nan), "norm", "lower: the text steers less", self.facts())

    def rates(self) -> list[tuple[float, ...]]:
        """Of every prompt: (copies before, after, similarity before, after); with its goal where it has one, else with any training picture."""
        found = []
        for i in range(len(self.album.rows)):
            if i < self.n:
                scores = [likeness(d[i : i + 1], self.goals[i : i + 1])[0].double().cpu().numpy() for d in self.drawn]
            else:
                scores = [s.reshape(len(self.album.rows), -1)[i] for s in self.album.score]
            found.append((*(float((s > self.asked.truth.threshold).mean()) for s in scores), *(float(s.mean()) for s in scores)))
        return found

    def table(self) -> Table:
        first, last = self.work.norm[0].tolist(), self.work.norm[-1].tolist()
        gap = (self.drawn[1] - self.drawn[0]).square().mean((2, 3, 4)).sqrt().mean(1).tolist()
        rows = tuple((p, "memorized" if i < self.n else "plain caption", first[i], last[i], *r, gap[i])
                     for i, (p, r) in enumerate(zip(self.album.rows, self.rates(), strict=True)))
        score = "mean SSIM with its picture, or for plain captions with the nearest training picture"
        return Table("Prompts before and after the change", ("prompt", "group", "norm before", "norm after", "copies before", "copies after",
                                                             "similarity before", "similarity after", "change"),
                     ("", "plain captions are changed in the same way", "norm of what the text adds to the noise at the first step, 0 and up", "the same after",
                      "share of noises whose picture is a copy, 0 to 1", "the same after, lower is better for a memorized prompt", score, "the same after",
                      "root of the mean squared change of the picture, 0 to 1"), rows, self.facts())

    def facts(self) -> tuple[str, ...]:
        s, lines = self.settings, list(self.asked.facts)
        if self.work.norm:
            left = int((self.work.norm[-1] > self.target).sum())
            lines.append(f"target {self.target:.3g}; {len(self.work.norm) - 1} steps of AdamW at {s.lr:g}; {left} of {len(self.album.rows)} prompts above")
        if len(self.drawn) > 1:
            rates = np.array(self.rates())
            for what, part in (("memorized prompts", slice(0, self.n)), ("plain captions", slice(self.n, None))):
                a, b, c, d = rates[part].mean(0)
                if c == c:  # of an unknown model nobody knows what a plain caption could copy
                    lines.append(f"{what}: {a:.0%} copies before, {b:.0%} after; SSIM {c:.2f} before, {d:.2f} after")
        return tuple(lines)
