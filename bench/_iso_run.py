"""One run of the leaderboard: a method until the forget loss is the oracles', and how what it leaves behind scores beside the oracles."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch

from lab.data import Data, data_for
from lab.events import Edited, Unlearning
from lab.experiment import find, read
from lab.ruler._metrics import metrics
from lab.ruler._oracles import load
from lab.ruler._profile import Profile, Sets, comparing, distributions, general, patching, reading, sets
from models import catalog
from models.model import Model

TARGET, FORGET, RETAIN = "scribe", "forget_10", "retain author"
MOST = 160  # items of a set that are scored: all 80 to be forgotten, all 160 that were never trained
SCORES = {"forget accuracy": "forget: accuracy", "forget truth ratio": "forget: truth ratio", "retain accuracy": "retain: accuracy",
          "membership AUC": "privacy: membership AUC, loss", "general text": "utility: loss, general text",
          "depth": "distance to the oracle: unlearning depth",
          **{f"KL {part}": f"distance to the oracle: KL, {part}" for part in ("forget", "retain", "holdout")}}


@dataclass(frozen=True)
class Job:
    """`label` is the row that it belongs to, `method` an experiment, `settings` what differs from its defaults."""

    label: str
    method: str
    seed: int
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return f"{self.label} | {self.seed}"


@functools.cache
def ruler() -> tuple[Model, Data, Sets, tuple[Profile, ...]]:
    """The model, what is known of it, the items that are scored and the profiles of its oracles."""
    model = catalog.load(TARGET, "cpu")
    data = data_for(model)
    items = sets(data, FORGET, RETAIN, MOST, 0)
    items.pop("world", None)
    return model, data, items, tuple(profiled(oracle, model, data, items) for oracle in load(model, data.oracles))


def profiled(model: Model, full: Model, data: Data, items: Sets) -> Profile:
    profile, forget = Profile(model, full), {"forget": items["forget"]}
    for step, part in ((reading, items), (general, items), (distributions, items), (comparing, forget), (patching, forget)):
        for _ in step(profile, part, data):
            pass
    return profile


def figures(profile: Profile, held_against: Iterable[Profile]) -> dict[str, float]:
    """The scores of a profile, by the names of `SCORES`, its losses in nats a token, and forget quality by oracle."""
    oracles, others = ruler()[3], list(held_against)
    found = {f"{m.group}: {m.name}": m.score(profile, others) for m in metrics(oracles)}
    losses = {f"{part} loss": float(profile.get(part, "answer loss").mean()) for part in ("forget", "retain", "holdout")}
    quality = {f"forget quality {o.model.name}": found[f"distance to the oracle: forget quality, {o.model.name}"] for o in oracles}
    return {short: found[long] for short, long in SCORES.items()} | losses | quality


def references() -> dict[str, dict[str, float]]:
    """The untouched model, and each oracle held against the others."""
    model, data, items, oracles = ruler()
    found = {model.name: figures(profiled(model, model, data, items), oracles)}
    return found | {o.model.name: figures(o, [other for other in oracles if other is not o]) for o in oracles}


def once(job: Job) -> dict[str, Any]:
    """Runs the job and scores the model that it ends with."""
    torch.set_num_threads(1)
    model, data, items, oracles = ruler()
    experiment = read(find(job.method), {"seed": job.seed} | job.settings)
    started = time.process_time()
    last: Unlearning | None = None
    edited: Edited | None = None
    for event in experiment.run(model, data):
        last = event if isinstance(event, Unlearning) else last
        edited = event if isinstance(event, Edited) else edited
    seconds = time.process_time() - started
    if last is None or edited is None:
        raise ValueError(f"{job.method} ended without a model")
    found = {"label": job.label, "method": job.method, "seed": job.seed, "settings": job.settings, "steps": edited.step, "ended": last.ended,
             "until": "until" in job.settings, "cost": last.cost, "cpu_seconds": round(seconds, 1)}
    return found | figures(profiled(edited.weights, model, data, items), oracles)
