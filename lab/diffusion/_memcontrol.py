"""The bi-level search: Optuna proposes parts and a rate, a copy is fine-tuned, and both ends are measured."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from lab.data import Data
from lab.diffusion._ask import asked
from lab.diffusion._goal import draw
from lab.diffusion._kept import loss
from lab.diffusion._loss import denoising
from lab.diffusion._quality import TIMES, some
from lab.diffusion._sample import batch as fits
from lab.diffusion._similar import floats, sized, ssim
from lab.diffusion._training import truth
from lab.diffusion._tune import PART, Tuned
from lab.events import Event, Grid, Progress, Scatter, Table
from lab.progress import retold
from models.errors import BadInput
from models.model import Model
from models.pipeline import words

if TYPE_CHECKING:
    from lab.diffusion.memcontrol import MemControl

ATTENTIONS = ("attn1", "attn2", "ff")


@dataclass(frozen=True)
class Trial:
    """One choice: `kind` is "all parts", "searched" or "random"; `quality` and `memory` are both better when lower. `of` is the trial it is matched with."""

    kind: str
    parts: tuple[str, ...]
    weights: int
    lr: float
    quality: float
    memory: float
    of: int = -1


def choices(model: Model) -> dict[str, list[str]]:
    """What can be trained or not -> the names of its parameters: of each kind of block its self-attention, cross-attention, feed-forward and the rest."""
    found: dict[str, list[str]] = {}
    for name, _ in model.net.named_parameters():
        if name.startswith(PART):
            pieces = name.removeprefix(PART).split(".")
            block = pieces[0].split("_")[0]
            kind = next((p for p in pieces if p in ATTENTIONS), "rest")
            place = block if block in ("down", "mid", "up", "encoder", "decoder") else "block" if block == "transformer" else "ends"
            found.setdefault(f"{place} {kind}" if place != "ends" else "ends", []).append(name)
    return found


def front(trials: Sequence[Trial]) -> list[int]:
    """The trials that no other beats in one figure without being worse in the other."""
    return [i for i, a in enumerate(trials) if not any((b.quality <= a.quality and b.memory <= a.memory) and (b.quality, b.memory) != (a.quality, a.memory)
                                                       for b in trials)]


def matched(model: Model, size: int, draws: torch.Generator) -> list[str]:
    """Parameters in random order, as many as come nearest to `size` weights."""
    mine = [(n, p.numel()) for n, p in model.net.named_parameters() if n.startswith(PART)]
    found, total = [], 0
    for i in torch.randperm(len(mine), generator=draws).tolist():
        name, count = mine[i]
        if abs(total + count - size) < abs(total - size):
            found.append(name)
            total += count
    return found


def memcontrol(settings: MemControl, model: Model, data: Data) -> Iterator[Event]:
    """Yields the figure after every choice."""
    import optuna

    yield Progress(0, settings.trials, "reading the pictures")
    run = Run(settings, model, data)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=optuna.samplers.TPESampler(seed=settings.seed, n_startup_trials=4))
    study.enqueue_trial({p: True for p in run.choices} | {"lr": settings.most})
    yield from run.untouched()
    for i in range(settings.trials):
        trial = study.ask()
        parts = tuple(p for p in run.choices if trial.suggest_categorical(p, [False, True]))
        lr = trial.suggest_float("lr", settings.least, settings.most, log=True)
        if not parts:  # nothing is trained: the model as it is
            study.tell(trial, [run.base.quality, run.base.memory])
            continue
        names = [n for p in parts for n in run.choices[p]]
        found = yield from run.tried("all parts" if len(parts) == len(run.choices) else "searched", parts, names, lr, f"choice {i + 1} of {settings.trials}")
        study.tell(trial, [found.quality, found.memory])
        yield run.figure()
    if settings.matched:
        for i in [i for i in front(run.trials) if run.trials[i].kind == "searched"]:
            mine = run.trials[i]
            names = matched(model, mine.weights, run.draws)
            yield from run.tried("random", (), names, mine.lr, "as many weights at random", of=i)
            yield run.figure()
    yield run.figure()


class Run:
    def __init__(self, settings: MemControl, model: Model, data: Data) -> None:
        if settings.least > settings.most:
            raise BadInput(f"the smallest learning rate is {settings.least:g}, the largest {settings.most:g}", cure="Exchange them", setting="least")
        self.settings, self.model = settings, model
        rows = [r for r in truth(model, data).of("regular", "held") if r.file >= 0 and r.captions]
        if len(rows) < settings.pictures + 2:
            raise BadInput(f"there are {len(rows)} plain training pictures", "only of the lab's own organisms are they at hand",
                           "Choose painter, or fewer pictures", setting="pictures")
        self.draws = torch.Generator().manual_seed(settings.seed)
        rows = some(rows, settings.pictures + settings.held, self.draws)
        tuned = rows[: settings.pictures]
        self.asked = a = asked(model, data, "\n".join(r.captions[0] for r in tuned), settings.seed, settings.seeds, settings.guidance, settings.steps, most=256)
        self.pixels = 1 - sized(floats(a.truth.images[[r.file for r in rows]], model.device), a.net.pixels)
        with torch.no_grad():
            self.latents = torch.cat([a.net.encode(p) for p in self.pixels.split(32)])
            self.embedding = a.net.embed(words(model, [r.captions[0] for r in rows]))
        n = len(rows) - settings.pictures
        last = int(a.net.scheduler_config["num_train_timesteps"])
        self.t = torch.tensor([round(last * TIMES[i % len(TIMES)]) for i in range(n)], device=model.device)
        self.noise = torch.randn((n, *a.net.latent_shape), generator=self.draws).to(model.device)
        self.choices, self.trials = choices(model), list[Trial]()
        self.total = sum(p.numel() for p in self.asked.net.denoiser.parameters())

    def told(self, run: Generator[Any, None, Any], note: str) -> Generator[Event, None, Any]:
        return (yield from retold(run, lambda _: Progress(len(self.trials), self.settings.trials, note)))

    def untouched(self) -> Iterator[Event]:
        quality, memory = yield from self.told(self.measure(self.asked.net), "the model as it is")
        self.base = Trial("untouched", (), 0, 0.0, quality, memory)

    def tried(self, kind: str, parts: tuple[str, ...], names: list[str], lr: float, note: str, of: int = -1) -> Generator[Event, None, Trial]:
        work = Tuned(self.model, lr, names)
        quality, memory = yield from self.told(self.tune(work), note)
        weights = sum(p.numel() for p in work.trained.values())
        self.trials.append(Trial(kind, parts, weights, lr, quality, memory, of))
        return self.trials[-1]

    def tune(self, work: Tuned) -> Generator[None, None, tuple[float, float]]:
        s, draws = self.settings, torch.Generator().manual_seed(self.settings.seed + 3)  # the same batches for every choice
        good = work.keep()
        for _ in range(s.tune):
            i = torch.randint(s.pictures, (s.batch,), generator=draws)
            out = (torch.rand(s.batch, generator=draws) < 0.1).to(self.latents.device)
            embedding = torch.where(out[:, None, None], self.asked.blank, self.embedding[i])
            if not work.step(loss(work.net, self.latents[i], embedding, draws).mean()):
                work.restore(good)  # a rate that breaks the weights is as good as none
                break
            yield
        return (yield from self.measure(work.net))

    def measure(self, net: Any) -> Generator[None, None, tuple[float, float]]:
        """(denoising loss on held pictures of the kind, mean SSIM of what trained captions draw with the trained pictures)."""
        n, size, found = self.settings.pictures, fits(net, self.model.device), []
        for i in range(0, len(self.t), size):
            part = slice(i, i + size)
            with torch.no_grad():
                found.append(denoising(net, self.latents[n:][part], self.embedding[n:][part], self.t[part], self.noise[part]))
            yield
        a = self.asked
        drawn: Tensor = yield from draw(net, self.embedding[:n], a.blank, a.seeds, a.steps, a.guidance)
        own = self.pixels[:n, None].expand(drawn.shape).flatten(0, 1)
        return float(torch.cat(found).mean()), float(ssim(drawn.flatten(0, 1), own).mean())

    # ---- figures

    def name(self, i: int) -> str:
        t = self.trials[i]
        return t.kind if t.kind == "all parts" else f"random, as many as {t.of + 1}" if t.kind == "random" else f"{i + 1}: {', '.join(t.parts)}"

    def figure(self) -> Event:
        return self.table() if self.settings.show == "table" else self.grid() if self.settings.show == "parts" else self.scatter()

    def scatter(self) -> Scatter:
        best = set(front(self.searched))
        labels = ["as it is", *(("front · " if i in best else "") + f"{t.kind} · {self.name(i)}" for i, t in enumerate(self.trials))]
        every = [self.base, *self.trials]
        return Scatter("Quality against memorization", tuple(labels), np.array([t.quality for t in every]), np.array([t.memory for t in every]),
                       "denoising loss on new pictures of the kind", "similarity to trained pictures, SSIM", False, "lower is better in both", self.facts())

    @property
    def searched(self) -> list[Trial]:
        return [t for t in self.trials if t.kind != "random"]

    def table(self) -> Table:
        best = set(front(self.searched))
        rows: list[tuple[str | float | None, ...]] = [("as it is", "untouched", 0.0, None, self.base.quality, self.base.memory, None)]
        rows += [(self.name(i), t.kind, t.weights / self.total, t.lr, t.quality, t.memory, "front" if i in best else None) for i, t in enumerate(self.trials)]
        return Table("Choices of what is fine-tuned", ("choice", "kind", "share trained", "rate", "quality", "memorization", "front"),
                     ("parts of the denoiser", "random: as many weights as a choice on the front", "of the denoiser's weights, 0 to 1", "learning rate",
                      "denoising loss on new pictures of the kind, lower is better", "SSIM with the trained pictures, -1 to 1, lower is better",
                      "no searched choice is better in both"), tuple(rows), self.facts(), "not on the front, or nothing was trained")

    def grid(self) -> Grid:
        rows = [i for i in front(self.searched)]
        value = np.array([[float(p in self.trials[i].parts) for p in self.choices] for i in rows])
        return Grid("Which parts the front trains", tuple(self.name(i) for i in rows), tuple(self.choices), "choice", "part", value,
                    np.full(value.shape, np.nan), "trained", "1: trained, 0: left alone", self.facts())

    def facts(self) -> tuple[str, ...]:
        s = self.settings
        lines = [*self.asked.facts, f"{s.pictures} inverted pictures, {s.tune} steps of AdamW with {s.batch} each; as it is: loss {self.base.quality:.3f}, "
                 f"SSIM {self.base.memory:.2f}"]
        whole = next((t for t in self.trials if t.kind == "all parts"), None)
        if whole:
            lines.append(f"all parts at {whole.lr:g}: loss {whole.quality:.3f}, SSIM {whole.memory:.2f}")
        pairs = [(self.trials[t.of], t) for t in self.trials if t.kind == "random"]
        if pairs:
            beaten = sum(a.quality <= b.quality and a.memory <= b.memory for a, b in pairs)
            other = sum(b.quality <= a.quality and b.memory <= a.memory for a, b in pairs)
            lines.append(f"of {len(pairs)} choices on the front {beaten} are no worse than as many random weights in both figures, {other} no better")
        return tuple(lines)
