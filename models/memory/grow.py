"""Grows memories, many at once, each in a process of its own; what stands already is not grown again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from models.memory import grown
from models.memory.designs import DESIGNS, build
from models.memory.train import Recipe, Trainer, train

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
    grown.save(trainer.net, grown.path(name, seed, folder), found)
    return found


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
