"""The few value neurons whose absence stops a replay: those that answer unusually, then as many as possible given back (Hintersdorf et al. 2024)."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lab.diffusion._goal import Goal, draw, likeness
from lab.diffusion._neurons import Blocking, activations
from lab.diffusion._similar import ssim
from lab.progress import retold
from models.model import Model
from models.pipeline import Pipeline

BEGIN, FALL, LEAST = 5.0, 0.25, 1.0  # of the threshold of unusual activations, in standard deviations
MARGIN = 0.15  # SSIM
Off = dict[str, Bool[Tensor, " neurons"]]


@dataclass(frozen=True, eq=False)
class Found:
    """`off`: the neurons of every layer. `before`, `chosen` and `after`: what the judge says undisturbed, without all unusual neurons, and without `off`.

    `candidates` were unusual at `threshold` or among the `k` most active of a layer; `stopped` says whether their absence came below the limit.
    """

    off: Off
    before: float
    chosen: float
    after: float
    threshold: float
    k: int
    candidates: int
    stopped: bool
    limit: float
    passes: int  # denoiser passes of one picture that the search took

    @property
    def count(self) -> int:
        return sum(int(v.sum()) for v in self.off.values())


@torch.no_grad()
def agreement(net: Pipeline, embedding: Float[Tensor, "1 rows width"], latents: Float[Tensor, "n c h w"], t: float) -> float:
    """How alike different noises end: the largest SSIM among pairs, of what the first denoising step takes away from each noise; 1 where all end alike.

    `t` is the first timestep. What is taken away there is, but for its scale, the clean latent that the step sees; its values are brought to 0 to 1
    together. No guidance.
    """
    clean = net.clean(latents, t, embedding.expand(len(latents), -1, -1))
    return alike(clean)


def alike(clean: Float[Tensor, "n c h w"]) -> float:
    low, high = clean.min(), clean.max()
    unit = (clean - low) / (high - low).clamp(min=1e-12)
    n = len(unit)
    one, two = torch.triu_indices(n, n, 1)
    # SSIM is taken colour by colour, so every channel is a grey picture of its own
    grey = unit.flatten(0, 1)[:, None].expand(-1, 3, -1, -1).unflatten(0, unit.shape[:2])
    found = ssim(grey[one].flatten(0, 1), grey[two].flatten(0, 1)).view(len(one), -1).mean(1)
    return float(found.max())


def usual(model: Model, embedding: Float[Tensor, "n rows width"], latents: Float[Tensor, "m c h w"], t: float,
          ) -> Generator[None, None, tuple[float, float]]:
    """Mean and standard deviation of the agreement over plain prompts."""
    net: Pipeline = model.net  # type: ignore[assignment]
    found = []
    for row in embedding.split(1):
        found.append(agreement(net, row, latents, t))
        yield
    each = torch.tensor(found)
    return float(each.mean()), float(each.std())


def scores(model: Model, embedding: Tensor, others: Mapping[str, Tensor], where: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """(z, activation) of every value neuron for one text: z is its activation against the mean and spread over plain prompts."""
    mine = {n: a[0] for n, a in activations(model, embedding, where).items()}
    z = {n: (a - others[n].mean(0)) / others[n].std(0).clamp(min=1e-6) for n, a in mine.items()}
    return z, mine


def candidates(z: Mapping[str, Tensor], active: Mapping[str, Tensor], threshold: float, k: int) -> Off:
    """The neurons with z above the threshold, and the k most active of every layer."""
    off = {}
    for name, value in z.items():
        chosen = value > threshold
        if k:
            chosen = chosen.clone()
            chosen[active[name].topk(min(k, len(chosen))).indices] = True
        off[name] = chosen
    return off


class Alike:
    """Judges by how alike noises end after the first step, at timestep `t`: the published way, one denoiser pass a noise."""

    dear = False  # neurons are given back one by one
    most, calls = 10**9, 0

    def __init__(self, embedding: Float[Tensor, "1 rows width"], latents: Float[Tensor, "n c h w"], t: float, limit: float) -> None:
        self.embedding, self.latents, self.t, self.limit, self.passes = embedding, latents, t, limit, 0

    def __call__(self, net: Pipeline) -> Generator[None, None, float]:
        self.passes += len(self.latents)
        yield
        return agreement(net, self.embedding, self.latents, self.t)


class Copies:
    """Judges by pictures: how near the nearest of all noises comes to the goal, SSIM. `limit` is what counts as a copy; what is looked for stays .15 below
    it, for other noises come nearer.

    A judgement takes `steps` passes a noise, so neurons are given back by halves: all at once if that keeps it so, else each half by itself; and after 60
    judgements what is left is kept.
    """

    dear = True
    most, calls = 60, 0

    def __init__(self, embedding: Float[Tensor, "1 rows width"], blank: Tensor, seeds: Sequence[int], steps: int, guidance: float, goal: Goal,
                 limit: float) -> None:
        self.embedding, self.blank, self.seeds, self.steps, self.guidance = embedding, blank, seeds, steps, guidance
        self.goal, self.limit, self.passes = goal, limit - MARGIN, 0

    def __call__(self, net: Pipeline) -> Generator[None, None, float]:
        self.calls += 1
        self.passes += len(self.seeds) * self.steps * (1 if self.guidance == 1 else 2)
        drawn = yield from draw(net, self.embedding, self.blank, self.seeds, self.steps, self.guidance)
        return float(likeness(drawn, [self.goal]).max())


def search(model: Model, embedding: Float[Tensor, "1 rows width"], others: Mapping[str, Float[Tensor, "n neurons"]], judge: Alike | Copies,
           where: str) -> Generator[str, None, Found]:
    """Finds the neurons for one text. Yields what it is doing.

    The threshold falls from 5 by .25 to 1 while k rises by one each time, until the judge is at most its limit; where it never is, the set that came
    nearest is taken. Then, layer by layer and within what is left neuron by neuron, the least unusual first, everything is given back whose return keeps
    it below.
    """
    hunt = Hunt(model, embedding, others, judge, where)
    yield from hunt.choose()
    yield from hunt.give_back()
    return hunt.found


class Hunt:
    def __init__(self, model: Model, embedding: Tensor, others: Mapping[str, Tensor], judge: Alike | Copies, where: str) -> None:
        self.work, self.judge = Blocking(model, where), judge
        self.z, self.active = scores(model, embedding, others, where)
        self.off: Off = {n: torch.zeros_like(v, dtype=torch.bool) for n, v in self.z.items()}

    def tried(self, off: Off, note: str) -> Generator[str, None, float]:
        """What the judge says without these."""
        self.work.block(off)
        return (yield from retold(self.judge(self.work.net), lambda _: note))

    def choose(self) -> Generator[str, None, None]:
        """The first set of the ladder that is enough. Each holds the one before it, so a dear judge looks for it by halves."""
        limit, dear = self.judge.limit, self.judge.dear
        self.before = self.chosen = yield from self.tried(self.off, "undisturbed")
        self.threshold, self.k = BEGIN, 0
        low, high = 0, round((BEGIN - LEAST) / FALL) + 1 if self.before > limit else 0
        while low < high and (dear or self.chosen > limit):
            k = (low + high) // 2 if dear else low
            off, value = candidates(self.z, self.active, BEGIN - FALL * k, k), self.before
            if any(bool(v.any()) for v in off.values()):
                value = yield from self.tried(off, f"without what is unusual above {BEGIN - FALL * k:g} deviations")
            if value <= limit or (value < self.chosen and self.chosen > limit):
                self.chosen, self.off, self.threshold, self.k = value, off, BEGIN - FALL * k, k
            low, high = (low, k) if value <= limit else (k + 1, high)
        self.after, self.count = self.chosen, sum(int(v.sum()) for v in self.off.values())

    def give_back(self) -> Generator[str, None, None]:
        layers = [[(n, i) for i in gone.nonzero()[:, 0].tolist()] for n, gone in self.off.items()]
        for layer in layers:
            yield from self.returned(layer, "giving layers back")
        left = sorted((float(self.z[n][i]), n, i) for n, gone in self.off.items() for i in gone.nonzero()[:, 0].tolist())
        every = [(n, i) for _, n, i in left]
        todo = [every] if self.judge.dear else [[pair] for pair in every]
        while todo and self.judge.calls < self.judge.most:
            group = todo.pop(0)
            back = yield from self.returned(group, "giving neurons back")
            if not back and len(group) > 1:
                todo[:0] = [group[: len(group) // 2], group[len(group) // 2 :]]

    def returned(self, group: list[tuple[str, int]], note: str) -> Generator[str, None, bool]:
        """Gives these back, if that keeps the judge below its limit; or, where it never was below, if that makes it no worse."""
        if not group:
            return True
        off = {n: v.clone() for n, v in self.off.items()}
        for n, i in group:
            off[n][i] = False
        value = yield from self.tried(off, note)
        if back := value <= max(self.judge.limit, self.chosen):
            self.off, self.after = off, value
        return back

    @property
    def found(self) -> Found:
        return Found(self.off, self.before, self.chosen, self.after, self.threshold, self.k, self.count, self.chosen <= self.judge.limit, self.judge.limit,
                     self.judge.passes)


def overlap(one: Mapping[str, Tensor], two: Mapping[str, Tensor]) -> float:
    """Intersection over union of two sets of neurons or weights: 0 where they share nothing, 1 where they are one; NaN where both are empty."""
    both = sum(int((one[n] & two[n]).sum()) for n in one)
    either = sum(int((one[n] | two[n]).sum()) for n in one)
    return both / either if either else float("nan")


def union(sets: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """What is in any of the sets."""
    out = {n: v.clone() for n, v in sets[0].items()}
    for other in sets[1:]:
        for n, v in other.items():
            out[n] |= v
    return out
