"""Grows memories, many at once, each in a process of its own; what stands already is not grown again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from copy import deepcopy
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.memory import grown
from models.memory.designs import DESIGNS, build
from models.memory.train import Recipe, Trainer, train

if TYPE_CHECKING:
    from models.memory.net import Reader

SAMPLE = 20  # steps that one point of the curve is the mean of


def grow(name: str, seed: int, folder: Path, recipe: Recipe, device: str = "cpu") -> dict[str, Any]:
    """Trains one net and writes it. Returns what is written beside the weights."""
    import torch

    torch.set_num_threads(1)
    base: Any = grown.load(DESIGNS[name].base, seed, folder) if DESIGNS[name].base else None
    trainer = Trainer(build(name, seed, base), recipe, seed, device)
    started, cpu, shares = time.perf_counter(), time.process_time(), []
    for _, share in train(trainer):
        shares.append(share)
    curve = [round(sum(part) / len(part), 4) for part in (shares[i : i + SAMPLE] for i in range(0, len(shares), SAMPLE))]
    parameters = list(trainer.net.parameters())
    found = {"name": name, "seed": seed, "recipe": asdict(recipe), "device": device, "parameters": sum(p.numel() for p in parameters),
             "trained": sum(p.numel() for p in parameters if p.requires_grad), "right": curve, "sample": SAMPLE,
             "cpu seconds": round(time.process_time() - cpu, 1), "seconds": round(time.perf_counter() - started, 1), "torch": torch.__version__}
    found |= rounded(trainer.net.to("cpu").eval(), recipe, seed)
    grown.save(trainer.net, grown.path(name, seed, folder), found)
    return found


def rounded(net: Reader, recipe: Recipe, seed: int) -> dict[str, float]:
    """What half precision, in which the weights are stored, costs: the share of questions answered right in single precision and in half, and the share
    whose answer is another."""
    import torch

    from models.memory import tasks

    batch = tasks.associations(64, recipe.length, min(16, recipe.most), torch.Generator().manual_seed(seed + 2_000_003), power=1.0)
    short, asked = deepcopy(net), batch.target >= 0
    with torch.no_grad():
        for p in short.parameters():
            p.copy_(p.half().float())
        single, half = (n(batch.tokens)[asked].argmax(1) for n in (net, short))
    right = batch.target[asked]
    return {"single": (single == right).float().mean().item(), "half": (half == right).float().mean().item(), "differ": (single != half).float().mean().item()}


def grow_all(names: list[str], seeds: list[int], folder: Path, recipe: Recipe, workers: int, device: str = "cpu") -> Iterator[dict[str, Any]]:
    """Yields what is known of each net as it is done. All of the first seed come first, and controls last; a net with a base waits for it."""
    todo = [(name, seed) for seed in seeds for name in names if not grown.path(name, seed, folder).is_file()]
    todo.sort(key=lambda job: DESIGNS[job[0]].control)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        running: dict[Any, tuple[str, int]] = {}
        while todo or running:
            ready = [(name, seed) for name, seed in todo if not DESIGNS[name].base or grown.path(DESIGNS[name].base, seed, folder).is_file()]
            if not ready and not running:
                name, seed = todo[0]
                raise RuntimeError(f"{name} needs {DESIGNS[name].base} of seed {seed}, which is neither grown nor asked for")
            for job in ready:
                running[pool.submit(grow, *job, folder, recipe, device)] = job
                todo.remove(job)
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                del running[done]
                yield done.result()
