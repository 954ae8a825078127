"""Every unlearning method at equal forgetting, beside the oracles: `python -m bench.leaderboard` writes models/weights/scribe/unlearning.md.

Each method runs with its defaults until the forget loss is the oracles', over several seeds. What is finished is kept in bench/leaderboard.json, so a run
that was interrupted goes on where it stopped; `--again LABEL` runs one row anew, `--page` only writes the page.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from bench._iso_run import FORGET, MOST, TARGET, Job, once, references
from bench._iso_words import HEAD, board, by_label, dampening, geometric, nearer, table, windows
from lab.experiment import discover
from models.catalog import WEIGHTS

CACHE = Path(__file__).with_name("leaderboard.json")
PAGE = WEIGHTS / TARGET / "unlearning.md"
SEEDS, STEPS = 3, 120
OTHER_LAYERS = ("1-6", "2-7")  # windows of as many layers as tracing chooses for this forget set, 0-5
RARELY = 100  # steps: what is measured on the way is not used here
WITH_GU = ("unlearn.grad_diff", "unlearn.npo", "unlearn.simnpo")
LAYERED = "unlearn.sha256"


def jobs(only: Sequence[str] = ()) -> list[Job]:
    """Every method that stands in lab/unlearn, each with its defaults, and some of them with GU as well, seed by seed."""
    found: list[Job] = []
    for seed in range(SEEDS):
        for method in (name for name in discover() if name.startswith("unlearn.")):
            found.append(Job(short(method), method, seed, common(method)))
            if method in WITH_GU:
                found.append(Job(f"{short(method)} + GU", method, seed, common(method) | {"gu": True}))
            if method == LAYERED:
                found += [Job(f"{short(method)}, layers {layers}", method, seed, common(method) | {"layers": layers}) for layers in OTHER_LAYERS]
    return [j for j in found if not only or j.label in only]


def short(method: str) -> str:
    return method.removeprefix("unlearn.")


def common(method: str) -> dict[str, Any]:
    """What is set alike for all: the sets, and to go on until the forget loss is the oracles'; all else is the method's default."""
    known = {f.name for f in fields(discover()[method])}
    return {k: v for k, v in {"forget": FORGET, "until": "oracle", "steps": STEPS, "measure": RARELY, "snapshot": RARELY}.items() if k in known}


def run(todo: Sequence[Job], cache: dict[str, Any], workers: int) -> None:
    """Runs what is not in the cache yet, and writes the cache after every run. Only this process writes it."""
    context = multiprocessing.get_context("spawn")  # a fork would share torch's threads
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        if not cache.get("references"):
            cache["references"] = pool.submit(references).result()
            save(cache)
        waiting = {pool.submit(once, job): job for job in todo if job.key not in cache["runs"]}
        for done in as_completed(waiting):
            job = waiting[done]
            try:
                cache["runs"][job.key] = done.result()
            except Exception as error:  # one method that fails must not take the others with it; it is told, and is run again next time
                say(f"{job.key}: failed, {type(error).__name__}: {error}")
                continue
            save(cache)
            mine = cache["runs"][job.key]
            say(f"{job.key}: {mine['steps']} steps, KL forget {mine['KL forget']:.2f}, retain accuracy {mine['retain accuracy']:.3f}, {mine['cpu_seconds']} s")


def save(cache: dict[str, Any]) -> None:
    draft = CACHE.with_suffix(".draft")
    draft.write_text(json.dumps(cache, indent=1, sort_keys=True) + "\n")
    draft.replace(CACHE)


def say(words: str) -> None:
    sys.stderr.write(f"{words}\n")
    sys.stderr.flush()


def page(cache: dict[str, Any]) -> str:
    known, groups = cache["references"], by_label(cache["runs"].values())
    bar = float(np.mean([r["forget loss"] for r in list(known.values())[1:]]))
    layered = [label for label in groups if label.startswith(f"{short(LAYERED)}, layers ")]
    return "\n".join([
        f"# Unlearning {TARGET}, method by method",
        "<!-- written by `python -m bench.leaderboard`; change that, not this -->", "",
        f"Every method of `lab/unlearn` takes the {FORGET} authors out of {TARGET}, with its defaults, until its forget loss is that of the oracles "
        f"({bar:.2f} nats a token) or {STEPS} steps are over; mean ± standard deviation over {SEEDS} seeds. Retain sets are the default. Scores are of all 80 "
        f"forget items, {MOST} retain items and all 160 items of the authors that nobody trained. KL is KL(oracle || model) in nats a token, mean over the "
        "oracles, lower is nearer; depth is the unlearning depth score, 0 intact to 1 erased as in the oracles; forget quality is the mean "
        "p-value over the oracles; the cost is in fine-tuning steps, one forward and one backward of a batch each. Methods "
        "stand by their KL on the forget set. Runs on the CPU, one thread.", "",
        table(HEAD, board(known, groups, bar)), "", "## What reproduces", "", *[f"- {line}" for line in findings(known, groups, layered, bar)], ""])


def findings(known: dict[str, Any], groups: dict[str, list[Any]], layered: Sequence[str], bar: float) -> Iterable[str]:
    yield from geometric(groups, [(short(m), f"{short(m)} + GU") for m in WITH_GU])
    if short("unlearn.ssd") in groups:
        yield dampening(known, groups["ssd"])
    if short(LAYERED) in groups and layered:
        yield windows(groups, short(LAYERED), layered, bar)
    yield nearer(known, groups, bar)


def main() -> None:
    parser = argparse.ArgumentParser(description="Every unlearning method at equal forgetting, beside the oracles")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=[], help="labels of rows to run, as in the table")
    parser.add_argument("--again", nargs="*", default=[], help="labels of rows whose runs are forgotten first")
    parser.add_argument("--page", action="store_true", help="only write the page from what is finished")
    asked = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # for the workers, before they import torch
    cache = json.loads(CACHE.read_text()) if CACHE.is_file() else {"runs": {}, "references": {}}
    cache["runs"] = {key: r for key, r in cache["runs"].items() if r["label"] not in asked.again}
    if not asked.page:
        run(jobs(asked.only), cache, asked.workers)
    PAGE.write_text(page(cache))


if __name__ == "__main__":
    main()
