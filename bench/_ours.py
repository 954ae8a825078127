"""The lab's own engines, through the public experiment: what a page or the command line runs.

`python -m bench._ours FOLDER load` (or `forward`, `map`) prints the peak memory of a process that loads the model (and runs the prompt once; and
makes a map).
"""

from __future__ import annotations

import json
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from bench._worker import SAMPLES, Case, Engine, peak, read_case, serve
from lab.data import Data
from lab.events import TraceMap
from lab.experiment import find, read
from models import catalog
from models.model import Model

KINDS: dict[str, dict[str, Any]] = {
    "hidden": {"kind": "hidden", "preview": False},
    "mlp": {"kind": "mlp", "window": 10, "preview": False},
    "preview": {"kind": "hidden", "preview": True},
}
DOUBLE = " double"  # behind a kind: all in double precision


def settings(case: Case, kind: str) -> dict[str, Any]:
    """Those of `trace.causal`; one that this version lacks is left out for hidden states, and is an error for all else."""
    known = {f.name for f in fields(find("trace.causal"))}
    extra = KINDS[kind.removesuffix(DOUBLE)]
    if kind != "hidden" and (missing := extra.keys() - known):
        raise NotImplementedError(f"trace.causal has no setting {', '.join(sorted(missing))}")
    asked = {"prompt": case.prompt, "subject": case.name, "answer": case.answer, "samples": SAMPLES, "noise": case.noise, "seed": 0}
    return asked | {name: value for name, value in extra.items() if name in known}


def trace(case: Case, model: Model, kind: str) -> list[list[float]]:
    """The finished map; of a "preview" the first one, as soon as it could be drawn."""
    events = read(find("trace.causal"), settings(case, kind)).run(model, Data((case.name,)))
    maps = (e for e in events if isinstance(e, TraceMap))
    *_, event = [next(maps)] if kind == "preview" else maps
    if abs(event.noise_std - case.std) > 1e-6 * case.std or event.subject != case.subject or len(event.answer_tokens) != 1:
        raise ValueError(f"another question was asked: noise {event.noise_std}, subject {event.subject}, answer {event.answer_tokens}")
    return event.effect.tolist()


def attribution(case: Case, model: Model, _: str) -> list[list[float]]:
    """Attribution patching alone, without a map around it. THE ONE PLACE that reaches into lab.trace: change it when that changes."""
    from lab.trace._case import Question, prepare
    from lab.trace._gradient import estimates, gradients

    asked = Question(case.prompt, case.name, case.answer, SAMPLES, case.noise, 0)
    ready = prepare(model, asked, (case.name,), frozenset({"hidden"}), graph=True)
    assert ready.log_probs is not None
    found = gradients(ready.replay, ready.log_probs, ready.score)
    ready.replay.close()
    return estimates(ready.replay, found, "hidden", len(case.ids)).mean(0).tolist()


def load(case: Case) -> Model:
    return catalog.load(str(case.model), "cpu", "float32")


def build(case: Case, kind: str) -> Engine:
    model = load(case)
    if kind.endswith(DOUBLE):  # the catalog has no such dtype, for nobody needs it but a proof
        model.net.double()
    run = attribution if kind == "attribution" else trace
    with torch.no_grad():
        logits = model.net(case.tokens(1)).logits[0]
    return Engine(lambda: run(case, model, kind), lambda: run(case, model, kind), logits)


def memory(case: Case, what: str) -> None:
    torch.set_num_threads(1)
    find("trace.causal")
    model = load(case)
    if what != "load":  # weights that were only mapped are not in memory yet
        with torch.no_grad():
            model.net(case.tokens(1), use_cache=False, logits_to_keep=1)
    if what == "map":
        trace(case, model, "hidden")
    print(json.dumps({"peak": peak()}))


if __name__ == "__main__":
    if sys.argv[2] in ("load", "forward", "map"):
        memory(read_case(Path(sys.argv[1])), sys.argv[2])
    else:
        serve(build)
