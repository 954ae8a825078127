"""Finding what to prune for a prompt, by either method, and the model without it."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from lab.diffusion._ask import Asked
from lab.diffusion._goal import Goal, plain
from lab.diffusion._nemo import Alike, Copies, Found, search, union, usual
from lab.diffusion._neurons import activations, short, without
from lab.diffusion._sample import start
from lab.diffusion._wanda import Norms, masks, pruned
from lab.progress import retold
from models.model import Model
from models.pipeline import words

STEPS, JUDGED = 10, 6  # denoising steps of a picture that is looked at on the way, and of one that only judges
EARLY = 1 / 3  # of the denoising steps: those that wanda reads
APART = 500_000  # between the noises that a search compares and those that pictures are drawn from


class Pruner:
    """`off` sets are (neurons,) masks of value matrices for nemo, (out, in) masks of second matrices for wanda, True where something goes."""

    def __init__(self, model: Model, asked: Asked, method: str, *, where: str = "all", noises: int = 10, share: float = 0.01, others: str = "", seed: int = 0,
                 until: str = "ends alike") -> None:
        self.model, self.asked, self.method, self.where, self.share = model, asked, method, where, share
        self.typed, self.noises, self.seed, self.until = others, noises, seed, until
        self.t = asked.net.schedule(asked.steps)[0][0]
        self.found: dict[str, Found] = {}  # prompt -> what nemo said

    def seeds(self, turn: int = 0) -> tuple[int, ...]:
        """The noises of a search; another `turn`, others."""
        first = self.seed + APART + 1000 * turn
        return tuple(range(first, first + self.noises))

    def prepare(self) -> Generator[str, None, None]:
        """Reads what is usual."""
        if self.method == "wanda":
            self.norms = Norms(self.model)
            run = self.norms.run(self.asked.blank, self.seeds(), self.asked.steps, EARLY)
            self.blank = yield from retold(run, lambda _: "reading feed-forwards without a prompt")
            return
        prompts = plain(self.asked, self.model, self.typed)
        with torch.no_grad():
            embedding = self.asked.net.embed(words(self.model, prompts, "others"))
        self.others = activations(self.model, embedding, self.where)
        if self.until == "pictures":
            return
        agreeing = usual(self.model, embedding[:32], start(self.asked.net, self.seeds(), self.model.device), self.t)
        self.mean, self.spread = yield from retold(agreeing, lambda _: "how alike noises end for plain prompts")

    @property
    def limit(self) -> float:
        return self.mean + self.spread

    def find(self, goal: Goal, embedding: Float[Tensor, "1 rows width"], turn: int = 0) -> Generator[str, None, dict[str, Tensor]]:
        """What to prune for one prompt."""
        if self.method == "wanda":
            run = self.norms.run(embedding, self.seeds(turn), self.asked.steps, EARLY)
            mine = yield from retold(run, lambda _: "reading feed-forwards")
            return masks(self.model, mine, self.blank, self.share)
        found = yield from search(self.model, embedding, self.others, self.judge(goal, embedding, turn), self.where)
        if not turn:
            self.found[goal.prompt] = found
        return found.off

    def judge(self, goal: Goal, embedding: Float[Tensor, "1 rows width"], turn: int) -> Alike | Copies:
        if self.until == "pictures":
            a = self.asked
            return Copies(embedding, a.blank, self.seeds(turn), min(a.steps, JUDGED), a.guidance, goal, a.truth.threshold)
        return Alike(embedding, start(self.asked.net, self.seeds(turn), self.model.device), self.t, self.limit)

    def without(self, sets: Sequence[dict[str, Tensor]], via: str) -> Model:
        """The model without what is in any of the sets."""
        edits: Any = pruned if self.method == "wanda" else without
        return self.model.with_weights(edits(self.model, union(sets)), via)

    def layers(self, off: dict[str, Tensor]) -> dict[str, float]:
        """Layer -> how many neurons (nemo), or which share of the weights in percent (wanda) is pruned."""
        found: dict[str, float] = {}
        for path, gone in off.items():
            name = short(path)
            while name in found:
                name += "'"
            found[name] = float(gone.float().mean() * 100 if self.method == "wanda" else gone.sum())
        return found

    def facts(self) -> tuple[str, ...]:
        if self.method == "wanda":
            return (f"weights of the feed-forwards' second matrices among the largest {self.share:.1%} of their row",)
        what = "the nearest of its pictures has SSIM" if self.until == "pictures" else "noises end alike to"
        lines = []
        if self.until != "pictures":
            lines.append(f"plain prompts: noises end alike to {self.mean:.2f} (deviation {self.spread:.2f}); the limit is {self.limit:.2f}")
        for prompt, f in self.found.items():
            how = f"unusual above {f.threshold:g}, k {f.k}" if f.stopped else "the limit was not reached; the nearest set is taken"
            lines.append(f"{prompt}: {f.count} neurons of {f.candidates} candidates ({how}); {what} {f.before:.2f} before, "
                         f"{f.after:.2f} without them; {f.passes} denoiser passes")
        return tuple(lines)
