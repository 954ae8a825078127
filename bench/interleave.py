"""`python -m bench.interleave` grows the two-modality nets at three seeds, scores them, trains them further, and writes what the lab shows of them.

Every finished part stands in models/weights/.growing, with the nets, so that an interrupted run goes on; what all seeds gave stands in bench/interleave.json.
A seed takes one thread; `--workers 3` runs all three side by side.
With `--write` it writes models/weights/interleave/figures.json and README.md from the parts that are there, and the two nets of seed 0.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from models.organisms.interleave.grow import WEIGHTS, aims, measure
from models.organisms.interleave.pictures import pictures
from models.organisms.interleave.recipe import JOINT, TASKS, Recipe, single
from models.organisms.interleave.scores import forced, scores
from models.organisms.interleave.tokens import rows
from models.organisms.interleave.train import forward, new_net, train
from models.organisms.interleave.tune import WAYS, Tuner, conflict

CACHE = Path(__file__).with_suffix(".json")
NETS = WEIGHTS / ".growing" / "interleave"
SEEDS = (0, 1, 2)
CONDITIONS = ("none", "single", "random", "shuffled")
SPLITS = ("train", "tone", "new")
TUNED = {"all weights": 3e-4, "adapters": 3e-3}  # learning rates
TUNING = 40  # steps
THIN = 2  # every second of the trained pictures measures what tuning forgets
PAIRS = 12  # batches whose gradients are compared

Parts = dict[str, Any]


def of(split: str) -> list[Any]:
    return [p for p in pictures() if p.split == split]


def parts_of(seed: int) -> Path:
    return NETS / f"parts-{seed}.json"


def keep(parts: Parts, key: str, seed: int, make: Callable[[], Any]) -> Any:
    """The part `key`, made and written down where it is not there yet."""
    if key not in parts:
        started = time.process_time()
        parts[key] = make()
        print(f"{key}: {time.process_time() - started:.0f} s", flush=True)
        NETS.mkdir(parents=True, exist_ok=True)
        parts_of(seed).write_text(json.dumps(parts) + "\n")
    return parts[key]


def grown(recipe: Recipe, targets: Any) -> dict[str, Any]:
    """Trains a net, keeps it, and gives its scores by split, its intensities, and how its losses and AIA losses went, every tenth step."""
    course: list[dict[str, Any]] = []
    started = time.process_time()
    net = train(recipe, targets, lambda step, seen: course.append({"step": step, "loss": seen.loss, "aia": seen.aia}) if step % 10 == 0 else None)
    seconds = time.process_time() - started
    NETS.mkdir(parents=True, exist_ok=True)
    save_file({n: p.detach().contiguous() for n, p in net.named_parameters()}, NETS / f"{recipe.name}.safetensors")
    return {"recipe": asdict(recipe), "seconds": round(seconds, 1), "targets": {t: v.tolist() for t, v in targets.items()}, "course": course,
            "scores": {split: scores(net, of(split), recipe.tasks) for split in SPLITS}, "intensity": measure(net, recipe.tasks)}


def net_of(recipe: Recipe) -> Any:
    net = new_net(recipe)
    net.load_state_dict(load_file(NETS / f"{recipe.name}.safetensors"), strict=False)
    net.tie_weights()
    return net.eval().requires_grad_(False)


def named(condition: str, seed: int) -> Recipe:
    return replace(JOINT, name=f"{condition}-{seed}", seed=seed, targets=condition)


def run_seed(seed: int) -> None:
    """All of one seed: the nets of one task alone, whose intensities are targets of the others; gradients; training further."""
    torch.set_num_threads(1)
    parts: Parts = json.loads(parts_of(seed).read_text()) if parts_of(seed).is_file() else {}
    alone: dict[str, list[float]] = {}
    for task in TASKS:
        recipe = replace(single(named("none", seed), task), name=f"{task}-{seed}")
        alone |= keep(parts, f"grow {recipe.name}", seed, lambda recipe=recipe: grown(recipe, {}))["intensity"]  # type: ignore[misc]
    for condition in CONDITIONS:
        recipe = named(condition, seed)
        keep(parts, f"grow {recipe.name}", seed, lambda recipe=recipe: grown(recipe, aims(recipe, alone)))  # type: ignore[misc]
    for condition in ("none", "single"):
        keep(parts, f"gradients {condition}-{seed}", seed, lambda c=condition: gradients(c, seed))  # type: ignore[misc]
    for task in TASKS:
        for way in ("", *WAYS):
            keep(parts, f"tune {task}, {way or 'before'}, none-{seed}", seed, lambda t=task, w=way: tuned("none", seed, t, w))  # type: ignore[misc]


def tuned(condition: str, seed: int, task: str, way: str, steps: int = TUNING) -> dict[str, float]:
    """Trains a net further on the pictures that it never saw, in one task, and gives losses and accuracies before (way "") or after."""
    net = net_of(named(condition, seed))
    other = next(t for t in TASKS if t != task)
    fresh, old = of("tone") + of("new"), of("train")
    if way:
        tuner = Tuner(net, way, rows(task, fresh), rows(other, old), lr=TUNED["all weights" if way == WAYS[0] else "adapters"], seed=seed)
        for _ in range(steps):
            tuner.step()
        net = tuner.net.eval()
    found: dict[str, float] = {}
    for what, rows_ in (("learned", rows(task, fresh)), ("intra-modal", rows(task, old[::THIN])), ("inter-modal", rows(other, old[::THIN]))):
        nll, right, _ = forced(net, rows_)
        found |= {f"{what} nll": nll, f"{what} accuracy": right}
    return found


def gradients(condition: str, seed: int) -> list[list[float]]:
    """(batches, layers): cosines of the gradients of both tasks, on trained pictures."""
    chosen, generator = of("train"), torch.Generator().manual_seed(seed)
    both = [rows(task, chosen) for task in TASKS]
    pairs = [(both[0].take(i[:16]), both[1].take(i[16:32])) for i in (torch.randperm(len(chosen), generator=generator) for _ in range(PAIRS))]
    return conflict(net_of(named(condition, seed)), pairs, forward).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--write", action="store_true", help="write figures, README and the nets of seed 0 from the parts that are there")
    asked = parser.parse_args()
    if asked.write:
        from bench._interleave_figures import write

        write(json.loads(CACHE.read_text()))
        return
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # for the workers, before they import torch
    with ProcessPoolExecutor(asked.workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        list(pool.map(run_seed, SEEDS))
    together: Parts = {}
    for seed in SEEDS:
        together |= json.loads(parts_of(seed).read_text())
    CACHE.write_text(json.dumps(together, indent=1) + "\n")


if __name__ == "__main__":
    main()
