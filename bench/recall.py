"""Memory architectures, grown and measured: `python -m bench.recall` writes bench/recall.json and models/weights/recall/README.md.

Every cell is one net: a memory and a seed. Nets that do not stand in the folder are grown first (models/memory, minutes each), then each is measured on
the same fresh sequences. What is finished stands in the file, so a run that was interrupted goes on; `--page` only writes the page, `--again` measures
anew.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from models.memory import grown
from models.memory.designs import DESIGNS

FILE = Path(__file__).with_suffix(".json")
PAGE = grown.WEIGHTS / "README.md"
SEEDS = (0, 1, 2)
SEQUENCES = 192
LOADS = (4, 16, 30)
BINS = ((1, 8), (9, 16), (17, 28), (33, 64), (65, 96), (97, 127))  # 29 to 32 is inside one window and outside the other
FAR = ((1, 28), (33, 127), (128, 255), (256, 511))
PAIRS, LONG = 16, 512


def once(name: str, seed: int, folder: Path) -> dict[str, Any]:
    """All figures of one net, in a process of its own."""
    import torch

    torch.set_num_threads(1)
    net, about = grown.load(name, seed, folder), grown.about(name, seed, folder)
    found: dict[str, Any] = {"parameters": about["parameters"], "trained": about["trained"], "growing": about["cpu seconds"], "right": about["right"],
                             "sample": about["sample"], "device": about["device"], "torch": about["torch"]}
    found |= {n: about[n] for n in ("single", "half", "differ") if n in about}
    found |= recalled(net) | far(net) | faithful(net, name, seed, folder)
    if name == "full":
        found["cut"] = cut(net)
    return found


def drawn(kind: str) -> Any:
    """The generator of one kind of sequences: the same for every net."""
    import torch

    return torch.Generator().manual_seed(2_026_000 + sum(map(ord, kind)))


def recalled(net: Any) -> dict[str, Any]:
    """Recall at the trained length: by load, and by lag at PAIRS pairs; and of passkeys at any depth, by length."""
    from lab.recall._arch_measure import answers, binned, last
    from models.memory import tasks

    said = {n: last(answers(net, tasks.associations(SEQUENCES, 128, n, drawn(f"load {n}"), power=1.0))) for n in LOADS}
    lag = binned(said[PAIRS].right, said[PAIRS].lag, BINS)[0]
    keys = {n: last(answers(net, tasks.passkeys(64, n, drawn(f"passkey {n}")))).right.mean() for n in (128, 256, LONG)}
    return {"load": {str(n): float(s.right.mean()) for n, s in said.items()}, "margin": float(said[PAIRS].margin.mean()), "lag": plain(lag),
            "passkey": {str(n): float(v) for n, v in keys.items()}}


def far(net: Any) -> dict[str, Any]:
    """Recall by lag in sequences four times as long as any that was trained on."""
    from lab.recall._arch_measure import answers, binned, last
    from models.memory import tasks

    said = last(answers(net, tasks.associations(96, LONG, PAIRS, drawn("far"), power=1.0)))
    return {"far": plain(binned(said.right, said.lag, FAR)[0])}


def faithful(net: Any, name: str, seed: int, folder: Path) -> dict[str, Any]:
    """Cued interventional fidelity by lag, and its mean; beside it the mean of the same net before it learned."""
    from lab.recall._arch_measure import binned, effects, last
    from models.memory import tasks
    from models.memory.designs import build

    base: Any = grown.load(DESIGNS[name].base, seed, folder) if DESIGNS[name].base else None
    fresh = build(name, seed, base).eval()
    generator = drawn("swap")
    batch = tasks.associations(2 * SEQUENCES, 128, PAIRS, generator, power=1.0)
    found, before = (last(effects(n, batch, drawn("swapped"))) for n in (net, fresh))
    return {"fidelity": plain(binned(found.divergence, found.lag, BINS)[0]), "fidelity mean": float(found.divergence.mean()),
            "followed": float(found.followed.mean()), "fidelity untrained": float(before.divergence.mean())}


def cost(net: Any) -> dict[str, Any]:
    """Bytes of the state after 128 and LONG tokens, and microseconds a token: one after the other, and all of 16 sequences of 128 at once."""
    import numpy as np
    import torch

    from lab.recall._arch_run import held
    from models.memory import tasks

    tokens = tasks.haystack(16, 128, drawn("cost")).tokens
    state, steps = net.start(1), []
    with torch.no_grad():
        for t in range(128):
            started = time.perf_counter()
            state, _ = net.step(state, tokens[:1, t])
            steps.append(time.perf_counter() - started)
        whole = []
        for _ in range(5):
            started = time.perf_counter()
            net(tokens)
            whole.append((time.perf_counter() - started) / tokens.numel())
    return {"bytes": {"128": held(net, 128), str(LONG): held(net, LONG)}, "step us": 1e6 * float(np.median(steps[64:])),
            "forward us": 1e6 * float(np.median(whole))}


def cut(net: Any) -> dict[str, Any]:
    """The net grown with full attention, its cache cut to a window, or to sinks and a window: recall and loss of answers inside the window, LONG tokens."""
    from lab.recall._arch_measure import answers, last
    from models.memory import tasks
    from models.memory.designs import build

    batch, found = tasks.associations(96, LONG, PAIRS, drawn("far"), power=1.0), {}
    for name in ("full", "window", "sinks"):
        short: Any = build(name, 0).eval()
        short.load_state_dict(net.state_dict())
        said = last(answers(short, batch))
        found[name] = float(said.right[said.lag <= BINS[2][1]].mean())
        found[f"{name}, outside"] = float(said.right[said.lag > 32].mean())
    return found


def plain(values: Any) -> list[float | None]:
    return [None if v != v else float(v) for v in values]


def work(asked: argparse.Namespace, done: dict[str, Any], folder: Path) -> None:
    """Measures what stands in the folder and not in `done`; times last, one net after the other. Only this process writes."""
    import torch

    there = [(name, seed) for name in DESIGNS for seed in grown.seeds(name, folder) if seed in SEEDS]
    todo = [(name, seed) for name, seed in there if f"{name}-{seed}" not in done][: asked.most]
    with ProcessPoolExecutor(asked.workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting = {pool.submit(once, name, seed, folder): f"{name}-{seed}" for name, seed in todo}
        for ready in as_completed(waiting):
            key = waiting[ready]
            done[key] = ready.result()
            save(done, asked.file)
            sys.stderr.write(f"{key}: recall of {PAIRS} pairs {done[key]['load'][str(PAIRS)]:.3f}, fidelity {done[key]['fidelity mean']:.3f}\n")
            sys.stderr.flush()
    torch.set_num_threads(1)
    for name, seed in there:
        if (mine := done.get(f"{name}-{seed}")) is not None and "step us" not in mine:
            mine |= cost(grown.load(name, seed, folder))
            save(done, asked.file)


def save(done: dict[str, Any], file: Path) -> None:
    rows = ",\n".join(f" {json.dumps(key)}: {json.dumps(short(done[key]), allow_nan=False)}" for key in sorted(done))
    draft = file.with_suffix(".draft")
    draft.write_text("{\n" + rows + "\n}\n")
    draft.replace(file)


def short(value: Any) -> Any:
    """Numbers to six digits."""
    if isinstance(value, dict):
        return {k: short(v) for k, v in value.items()}
    if isinstance(value, list):
        return [short(v) for v in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def main() -> None:
    parser = argparse.ArgumentParser(description="Memory architectures, grown and measured")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=grown.WEIGHTS, help="where the grown nets stand")
    parser.add_argument("--file", type=Path, default=FILE, help="where the figures go")
    parser.add_argument("--most", type=int, default=10**6, help="nets to measure before it ends")
    parser.add_argument("--measure", action="store_true", help="measure what is grown, and grow nothing")
    parser.add_argument("--again", action="store_true", help="forget what was measured before")
    parser.add_argument("--times", action="store_true", help="forget the times alone")
    parser.add_argument("--page", action="store_true", help="only write the page from what is finished")
    asked = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # for the workers, before they import torch
    done = json.loads(asked.file.read_text()) if asked.file.is_file() and not asked.again else {}
    for mine in done.values() if asked.times else ():
        mine.pop("step us", None)
    if not asked.page:
        if not asked.measure:
            from models.memory.grow import grow_all
            from models.memory.train import Recipe

            for found in grow_all(list(DESIGNS), list(SEEDS), asked.folder, Recipe(), asked.workers):
                sys.stderr.write(f"grown {found['name']}-{found['seed']}: {found['cpu seconds']} CPU-s\n")
        work(asked, done, asked.folder)
    from bench._recall_page import page

    if asked.file == FILE:
        PAGE.write_text(page(done))


if __name__ == "__main__":
    main()
