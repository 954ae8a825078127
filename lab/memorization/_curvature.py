"""Curvature of the loss of many items, batch after batch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from lab.data import Data
from lab.events import Event, Progress
from lab.items import Item
from lab.memorization._bend import Matrices, bend, output_noise, signs
from lab.memorization._measures import Measure
from lab.memorization._rows import Row, padded, rows_of, vocabulary
from lab.memorization._sample import taken
from lab.memorization._spectrum import Spectrum, factors, general, late, spectrum, weight_of
from lab.memorization._survey import tabled
from lab.trace._sites import NEURON, anatomy
from models.model import Model, blocks, embedding

if TYPE_CHECKING:
    from lab.memorization.curvature import LossCurvature

ROWS, LOGITS = 16, 2**20  # of a batch: every direction takes three forwards and three backwards

MEASURES = (
    Measure("input curvature", "trace of the Hessian of the answer's mean loss in the input embeddings, in nats a squared unit of the embedding; any number",
            1, "Garg et al. 2023, arXiv 2307.05831; Ravikumar et al. 2024, arXiv 2402.18726", "input"),
    Measure("squared input curvature", "trace of that Hessian squared, 0 and up, whose sign changes do not cancel", 1, "Garg et al. 2023, arXiv 2307.05831",
            "input"),
    Measure("Fisher trace", "mean squared gradient of the answer at the last matrices of all MLPs, its tokens drawn from what the model expects: the "
            "curvature of the loss in these weights, summed over them, a token of the answer; 0 and up", 1, "Merullo et al. 2025, arXiv 2510.24256", "weights"),
    Measure("gradient norm", "squared norm of the gradient of the answer's mean loss at the same weights, its tokens as they stand; 0 and up", -1,
            "Nasr et al. 2019, arXiv 1812.00910", "weights"),
    Measure("low-curvature share", "of what the last matrices of three late MLPs do with the item, the share of their part where the loss of general text "
            "bends least (by K-FAC, a fifth of all curvature), 0 to 1; the share of a single item is this lab's interpretation", 1,
            "Merullo et al. 2025, arXiv 2510.24256", "spectrum"),
)


def curvatures(settings: LossCurvature, model: Model, data: Data) -> Iterator[Event]:
    """Yields the survey after every batch."""
    yield Progress(0, 0, "choosing items")
    items = taken(data, settings.items, settings.seed)
    rows = rows_of(model, items)
    gauge = Gauge(model, settings.step, settings.probes, torch.Generator().manual_seed(settings.seed))
    yield from gauge.prepare(general(model, data), torch.Generator().manual_seed(settings.seed))
    given = {"input", *(["weights"] if gauge.matrices else []), *(["spectrum"] if gauge.spectra else [])}
    measures = [m for m in MEASURES if m.needs in given]
    value = np.full((len(items), len(measures)), np.nan)
    for done, batch in alike(rows, vocabulary(model)):
        for found in gauge.measure([rows[i] for i in batch]):
            yield Progress(done, len(items), "bending the loss")
            value[batch] = np.stack([found[m.name] for m in measures], 1)
        yield tabled(items, measures, value, facts(items, value))
    if not np.isfinite(value).any():
        yield tabled(items, measures, value, ("no item has an answer",))


def alike(rows: Sequence[Row], words: int) -> Iterator[tuple[int, list[int]]]:
    """(rows before it, indices) of batches of rows of one length, so that no padding bends; those without an answer are left out."""
    by_length: dict[int, list[int]] = {}
    for i, row in enumerate(rows):
        if row.answer:
            by_length.setdefault(len(row.ids), []).append(i)
    done = 0
    for length, group in sorted(by_length.items()):
        size = max(1, min(ROWS, LOGITS // (length * words)))
        for j in range(0, len(group), size):
            yield done, group[j : j + size]
            done += len(group[j : j + size])


class Gauge:
    """The curvature of rows of one length. Hooks stand on a private copy of the net."""

    def __init__(self, model: Model, step: float, probes: int, generator: torch.Generator) -> None:
        self.net, self.step, self.probes, self.generator = model.skeleton(), step, probes, generator
        self.device = model.device
        config: Any = model.net.config
        width = config.get_text_config(decoder=True).hidden_size
        found = [anatomy(block, width).get(NEURON) for block in blocks(self.net)]
        self.modules: list[nn.Module] = [m for m in found if m is not None]
        self.matrices = Matrices(self.modules) if self.modules else None
        self.spectra: dict[int, Spectrum] = {}  # of some of the modules, by their place

    def prepare(self, ids: Tensor, generator: torch.Generator) -> Iterator[Progress]:
        """Makes the spectra of late matrices from the factors over `ids` (rows, tokens); leaves them out where a net has no such matrices."""
        chosen = late(self.modules)
        if self.matrices is None or not chosen:
            return
        kept = self.matrices

        def through(batch: Tensor) -> list[tuple[Tensor, Tensor]]:
            with torch.enable_grad():
                logits = self.logits(embedding(self.net)(batch.to(self.device)).detach().float().requires_grad_())
                noise = output_noise(logits.detach(), signs(logits.shape, generator).to(logits))
                return list(zip((kept.inputs[i] for i in chosen),
                                torch.autograd.grad((logits * noise).sum(), [kept.outputs[i] for i in chosen]), strict=True))

        found: list[tuple[Tensor, Tensor]] = []
        for so_far in factors(ids, through, ROWS):
            found = so_far
            yield Progress(0, 0, "reading general text")
        for i, (a, g) in zip(chosen, found, strict=True):
            self.spectra[i] = spectrum(weight_of(self.modules[i]).detach(), a, g)
            yield Progress(0, 0, "sorting matrices by curvature")

    def measure(self, rows: Sequence[Row]) -> Iterator[dict[str, np.ndarray]]:
        """Yields the means over the directions so far, one for each measure and row; the last is the result."""
        ids, _ = padded([r.ids for r in rows], self.device)
        answer = torch.stack([torch.arange(ids.shape[1] - 1) >= r.start - 1 for r in rows]).to(self.device)
        x = embedding(self.net)(ids).detach().float()
        step = self.step * float(x.square().mean().sqrt())
        total: dict[str, Tensor] = {}
        fixed = {"gradient norm": self.actual(x, ids, answer)}
        if self.matrices and self.spectra:  # what went into the matrices just now
            fixed["low-curvature share"] = torch.stack([s.share(self.matrices.inputs[i][:, :-1], answer) for i, s in self.spectra.items()]).mean(0)
        for n in range(1, self.probes + 1):
            first, second = bend(lambda y: self.gradient(y, ids, answer), x, signs(x.shape, self.generator).to(x), step)
            new = {"input curvature": first, "squared input curvature": second, "Fisher trace": self.fisher(x, answer)}
            total = {name: total.get(name, 0.0) + v for name, v in new.items()}
            yield {name: (v / n).cpu().numpy() for name, v in total.items()} | {name: v.cpu().numpy() for name, v in fixed.items()}

    def logits(self, x: Tensor) -> Tensor:
        return self.net(inputs_embeds=x, use_cache=False).logits[:, :-1].float()

    def losses(self, logits: Tensor, ids: Tensor, answer: Tensor) -> Tensor:
        """(rows,): mean loss of each answer."""
        each = functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
        return (each * answer).sum(1) / answer.sum(1)

    def gradient(self, x: Tensor, ids: Tensor, answer: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return torch.autograd.grad(self.losses(self.logits(x), ids, answer).sum(), x)[0]

    def fisher(self, x: Tensor, answer: Tensor) -> Tensor:
        """(rows,): one unbiased draw of the trace of the Fisher information a token of the answer. Tokens do not mix: their signs are independent."""
        if self.matrices is None:
            return torch.full((len(x),), math.nan)
        with torch.enable_grad():
            logits = self.logits(x.detach().requires_grad_())
            noise = output_noise(logits.detach(), signs(logits.shape, self.generator).to(logits))
            return self.matrices.squares((logits * noise * answer.unsqueeze(-1)).sum()) / answer.sum(1)

    def actual(self, x: Tensor, ids: Tensor, answer: Tensor) -> Tensor:
        if self.matrices is None:
            return torch.full((len(x),), math.nan)
        with torch.enable_grad():
            return self.matrices.squares(self.losses(self.logits(x.detach().requires_grad_()), ids, answer).sum())


def facts(items: Sequence[Item], value: np.ndarray) -> tuple[str, ...]:
    """How the first measure differs between what was read often and what was never read."""
    copies = np.array([i.copies for i in items])
    lines = []
    for kind in dict.fromkeys(i.kind for i in items):
        mine = np.array([i.kind == kind for i in items]) & np.isfinite(value[:, 0])
        often, never = value[mine & (copies > 0), 0], value[mine & (copies == 0), 0]
        if len(often) and len(never):
            lines.append(f"{kind}: median input curvature {np.median(often):.3g} where it was read, {np.median(never):.3g} where it never was")
    return tuple(lines)


