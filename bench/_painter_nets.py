"""What the painter's parts do besides drawing: the autoencoder, the loss, storage in half precision, how many look-alikes there are, and the clock."""

from __future__ import annotations

import functools
import os
import statistics
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from bench._painter_cells import known, planted
from bench._painter_draws import Cell, drawn
from lab.diffusion._sample import paint, start
from lab.diffusion._similar import Gallery, floats, ssim
from models.model import Model
from models.organisms.painter.corpus import corpus
from models.organisms.painter.recipe import RECIPES, SIZES, STEPS
from models.pipeline import nothing, pictures, words

TIMES = (100, 400, 700)  # of 1,000, at which the loss is measured
REPEATS = 3


@torch.no_grad()
def rebuilt(model: Model, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(SSIM, PSNR in decibel) of pictures after the autoencoder: no drawn picture can come nearer."""
    net, found = pictures(model), []
    for part in floats(images).split(64):
        out = net.decode(net.encode(part))
        found.append(torch.stack([ssim(out, part), -10 * (out - part).square().mean((1, 2, 3)).log10()]))
    both = torch.cat(found, 1).numpy()
    return both[0], both[1]


@torch.no_grad()
def losses(model: Model, images: np.ndarray, captions: Sequence[str]) -> np.ndarray:
    """Squared error of the noise-free latents' velocity, mean over TIMES, a number a picture; the same noise for every model."""
    net = pictures(model)
    clean, told, total = net.encode(floats(images)), net.embed(words(model, captions)), torch.zeros(len(images))
    for t in TIMES:
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(t))
        signal, sigma = net.levels(torch.tensor(t))
        for rows in torch.arange(len(images)).split(16):
            eps, x0 = net.predict(signal * clean[rows] + sigma * noise[rows], t, told[rows])
            wrong = signal * (eps - noise[rows]) - sigma * (x0 - clean[rows])
            total[rows] += wrong.square().mean((1, 2, 3)) / len(TIMES)
    return total.numpy()


def loss_table(models: Sequence[Model]) -> dict[str, list[float]]:
    """Kind of picture -> mean loss of each model."""
    rows = known().rows
    fresh = {r.name: r for r in rows if r.kind == "held" and r.id.endswith(".0")}
    trained = {r.name: r for r in rows if r.kind == "regular" and r.id.endswith(".1")}
    plan = {f"planted {c} times": [r for r in planted() if r.kind == "verbatim" and r.copies == c] for c in (1, 4, 16, 64, 256)}
    plan |= {"templates": [r for r in planted() if r.kind == "template"], "regular, trained": list(trained.values()), "regular, held out": list(fresh.values())}
    return {kind: [float(losses(m, known().images[[r.file for r in some]], [r.captions[0] for r in some]).mean()) for m in models]
            for kind, some in plan.items()}


def rounded_again(model: Model, captions: Sequence[str], guidance: float) -> np.ndarray:
    """SSIM between pictures of the stored weights and of weights off by as much as storing them in half precision made them: up to half a last place."""
    net: Any = pictures(model)
    draw, edits = torch.Generator().manual_seed(0), {}
    for name, p in net.named_parameters():
        last = torch.exp2(p.detach().abs().clamp(min=2.0**-14).log2().floor() - 10)
        edits[name] = p.detach() + last * (torch.rand(p.shape, generator=draw) - 0.5)
    other, found = model.with_weights(edits, "rounding"), []
    for one in (model, other):
        with torch.no_grad():
            told = pictures(one).embed(words(one, captions))
        found.append(paint(pictures(one), told, nothing(one), start(pictures(one), [0]).expand(len(captions), -1, -1, -1), STEPS, guidance))
    return ssim(*found).numpy()


def among_all(model: Model, cells: Sequence[Cell], names: Sequence[str], some: Sequence[str]) -> np.ndarray:
    """SSIM of regular pictures with the nearest of all training pictures of their name, not only of those the manifest lists. `names` are those of the
    captions of every cell, `some` those that are looked at.
    """
    whole, rows, found = corpus(SIZES["gpu"].variants), _rows(), []
    for name in some:
        mine = np.stack([drawn(model, cell)[list(names).index(name), 0] for cell in cells])
        found.append(Gallery(whole.pictures(rows[name])).nearest(floats(mine)).ssim)
    return np.stack(found)


@functools.cache
def _rows() -> dict[str, list[int]]:
    rows: dict[str, list[int]] = {}
    for k, s in enumerate(corpus(SIZES["gpu"].variants).shown):
        if s.kind == "regular":
            rows.setdefault(s.name, []).append(k)
    return rows


def seconds(model: Model, guidance: float, threads: int) -> tuple[float, float, float]:
    """(median and least seconds of one picture by the clock, processor seconds)."""
    net, before = pictures(model), torch.get_num_threads()
    torch.set_num_threads(threads)
    with torch.no_grad():
        told, wall, busy = net.embed(words(model, ["dragon"])), [], []
    for _ in range(REPEATS + 1):
        begun, used = time.perf_counter(), time.process_time()
        paint(net, told, nothing(model), start(net, [0]), STEPS, guidance)
        wall.append(time.perf_counter() - begun)
        busy.append(time.process_time() - used)
    torch.set_num_threads(before)
    return statistics.median(wall[1:]), min(wall[1:]), statistics.median(busy[1:])


def cpu_step(steps: int = 6) -> float:
    """Processor seconds of a training step of the CPU's size, after two that warm up, on one thread."""
    from models.organisms.painter.budget import Budget
    from models.organisms.painter.train import Trainer

    size = SIZES["cpu"]
    known_set = corpus(size.variants)
    trainer = Trainer(RECIPES["painter"], size, known_set, "cpu")
    trainer.begin(torch.randn(len(known_set.shown), 4, 16, 16), Budget(steps=1000))
    spent: list[float] = []
    for _ in range(steps + 2):
        begun = time.process_time()
        trainer.step()
        spent.append(time.process_time() - begun)
    return statistics.median(spent[2:])


def load() -> str:
    return f"{os.getloadavg()[0]:.0f}"

