"""Pictures to be drawn in the place of a memorized one: like what was asked, and no copy."""

from __future__ import annotations

from collections.abc import Generator

import torch
from jaxtyping import Float
from torch import Tensor

from lab.diffusion._ask import Asked
from lab.diffusion._goal import Goal, draw, likeness
from lab.diffusion._prune import Pruner
from lab.diffusion._similar import Gallery, floats
from lab.progress import retold
from models.model import Model
from models.pipeline import Pipeline

DRAWN = 8  # noises that surrogates are drawn from
FIRST = 700_000  # the first of them


class Surrogates:
    """`latents[g]` (some, c, h, w) of every goal; `facts` say where they come from."""

    def __init__(self, model: Model, asked: Asked, goals: tuple[Goal, ...], seed: int) -> None:
        self.model, self.asked, self.goals, self.seed = model, asked, goals, seed
        self.latents: list[Float[Tensor, "some c h w"]] = []
        self.facts: list[str] = []
        planted = [r.file for r in asked.truth.of("verbatim", "template") if r.file >= 0]
        self.planted = Gallery(floats(asked.truth.images[planted], model.device)) if planted else None

    def prepare(self, pruned: bool) -> Generator[str, None, None]:
        sets = {}
        if pruned:
            pruner = Pruner(self.model, self.asked, "nemo", noises=6, seed=self.seed, until="pictures")
            yield from pruner.prepare()
            for i, goal in enumerate(self.goals):
                sets[i] = yield from pruner.find(goal, self.asked.embedding[i : i + 1])
        for i, goal in enumerate(self.goals):
            found = None
            if i in sets:
                net: Pipeline = pruner.without([sets[i]], "pruned").net  # type: ignore[assignment]
                found = yield from self.drawn(net, self.asked.embedding[i : i + 1], goal)
            if found is None:
                if pruned:
                    self.facts.append(f"{goal.prompt}: the pruned model still draws copies, so the surrogates are what is drawn without text")
                found = yield from self.drawn(self.asked.net, self.asked.blank, goal)
            if found is None:
                self.facts.append(f"{goal.prompt}: even without text only copies are drawn; the surrogate is a plain grey picture")
                with torch.no_grad():
                    found = self.asked.net.encode(torch.full_like(goal.pixels, 0.5)[None])
            self.latents.append(found)

    def drawn(self, net: Pipeline, embedding: Tensor, goal: Goal) -> Generator[str, None, Tensor | None]:
        """The latents of pictures that copy neither the goal nor any other planted picture; None where there is none."""
        a = self.asked
        run = draw(net, embedding, a.blank, range(self.seed + FIRST, self.seed + FIRST + DRAWN), a.steps, a.guidance)
        pictures = yield from retold(run, lambda _: f"surrogates of {goal.prompt}")
        good = likeness(pictures, [goal])[0] <= a.truth.threshold
        if self.planted:
            good &= torch.from_numpy(self.planted.nearest(pictures[0]).ssim <= a.truth.threshold).to(good.device)
        if not bool(good.any()):
            return None
        with torch.no_grad():
            return net.encode(pictures[0][good])
