"""What a step of unlearning costs: `python -m bench.unlearning` times every gradient method beside a bare loop, and a whole run as a page sees it.

The bare loop does the forwards and backwards that the method's formula needs, on the same batches, with the same optimiser, and nothing else. Processor
time, one thread, in turns; the median of the ratios. Geometric disentanglement does its work only in steps that would raise a retain loss, and at first
there is none, so its row begins after as many steps of the usual rate as it takes, and says how many of those that were timed were corrected.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import fields
from typing import Any
from unittest import mock

import torch

from lab.data import data_for
from lab.events import Unlearning
from lab.experiment import discover, find, read
from lab.unlearn import _loop
from lab.unlearn._formulas import logits, mean, nll
from lab.unlearn._loop import Descent
from lab.unlearn._private import Private
from models import catalog
from models.model import Model

FORGET, STEPS = "forget_10 author", 6
WARM = 24  # steps before those that are timed, with geometric disentanglement


def prepared(name: str, model: Model, extra: dict[str, Any]) -> Descent:
    """The run of a method, ready for its first step."""
    known = {f.name for f in fields(find(name))}
    settings = {k: v for k, v in {"forget": FORGET, "layers": "0-5", **extra}.items() if k in known}
    caught: list[Descent] = []

    def catch(run: Descent) -> Iterator[Any]:
        caught.append(run)
        yield from ()

    with mock.patch.object(_loop.Descent, "go", catch):
        list(read(find(name), settings).run(model, data_for(model)))
    run = caught[0]
    go = run.go()
    next(go)  # makes the private weights and the optimiser
    return run


def bare(run: Descent, model: Model) -> Callable[[], None]:
    """One step that does no more than the formula needs."""
    own = Private(model, run.method.trained(model), 0, 0)
    optimizer = torch.optim.AdamW(own.parameters, 1e-6, fused=True)
    with_gu = run.untangled is not None
    forwards, backwards = int(run.method.forwards), int(run.method.backwards)
    needs = run.sets.retain if run.method.retains or with_gu else None

    def step() -> None:
        batches = [deck.draw(run.settings.batch) for deck in (run.sets.forget, needs) if deck]
        optimizer.zero_grad(set_to_none=True)
        total = sum(mean(nll(logits(own.net, batch), batch), batch) for batch in (batches * backwards)[:backwards])
        with torch.no_grad():
            for i in range(forwards - backwards):
                logits(model.net, batches[i % len(batches)])
        assert isinstance(total, torch.Tensor)
        total.backward()
        optimizer.step()
        if with_gu:
            loss = mean(nll(logits(own.net, batches[-1]), batches[-1]), batches[-1])
            torch.autograd.grad(loss, own.parameters, allow_unused=True)

    return step


def timed(step: Callable[[], Any]) -> float:
    start = time.process_time()
    for _ in range(STEPS):
        step()
    return (time.process_time() - start) / STEPS


def cost(repeats: int, only: str) -> str:
    model = catalog.load("scribe", "cpu")
    lines = ["| method | seconds a step | of the bare loop | range |", "|---|---|---|---|"]
    gradient = [n for n, kind in discover().items() if n.startswith("unlearn.") and any(f.name == "lr" for f in fields(kind))]
    runs: list[tuple[str, dict[str, Any]]] = [*((n, {"lr": 1e-6}) for n in gradient), ("unlearn.grad_diff", {"gu": True})]
    for name, extra in runs:
        label = f"{name.removeprefix('unlearn.')}{' + GU' if 'gu' in extra else ''}"
        if only and label != only:
            continue
        run = prepared(name, model, extra)
        step = bare(run, model)
        for _ in range(WARM if run.untangled else 1):
            run.one_step()
        step()
        before = run.step
        ratios, mine = [], []
        for _ in range(repeats):
            mine.append(timed(run.one_step))
            ratios.append(mine[-1] / timed(step))
        label += f" ({corrected(run, before)} of {run.step - before} steps corrected)" if run.untangled else ""
        lines.append(f"| {label} | {statistics.median(mine):.3f} | {statistics.median(ratios):.2f} | {min(ratios):.2f} to {max(ratios):.2f} |")
    return "\n".join(lines)


def corrected(run: Descent, before: int) -> int:
    """How many of the steps after `before` geometric disentanglement had to correct."""
    event = run.event()
    counts = event.value[list(zip(event.groups, event.series, strict=True)).index(("geometry", "violated constraints"))]
    return int((counts[event.step > before] > 0).sum())


def stream(threads: int) -> str:
    """Gradient difference of 60 steps, as a page sees it."""
    torch.set_num_threads(threads)
    model = catalog.load("scribe", "cpu")
    start, points = time.monotonic(), []
    for event in read(find("unlearn.grad_diff"), {"forget": FORGET}).run(model, data_for(model)):
        points += [time.monotonic() - start] if isinstance(event, Unlearning) else []
    rate = (len(points) - 1) / (points[-1] - points[0])
    return f"first point after {points[0]:.2f} s, then {rate:.1f} points a second over {points[-1]:.1f} s, {threads} threads"


def main() -> None:
    parser = argparse.ArgumentParser(description="What a step of unlearning costs")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default="", help='the row of one method, such as "grad_diff + GU"')
    asked = parser.parse_args()
    if not asked.only:
        print(stream(2))
    torch.set_num_threads(1)
    print(cost(asked.repeats, asked.only))


if __name__ == "__main__":
    main()
