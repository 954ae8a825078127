"""Is the memory at one place? How far triggers of a picture lie apart, and how much the neurons agree that are found for them (Sun et al. 2025)."""

from __future__ import annotations

import itertools
import time
from collections.abc import Generator, Sequence
from typing import Any

import torch
from torch import Tensor

from lab.data import Data
from lab.diffusion._ask import asked
from lab.diffusion._goal import draw, goals, likeness, plain, planted
from lab.diffusion._nemo import overlap
from lab.diffusion._neurons import activations
from lab.diffusion._prune import Pruner
from lab.diffusion._training import truth
from lab.diffusion._trigger import RANDOM, begin
from lab.diffusion._trigger_search import Search, distances
from models.model import Model
from models.pipeline import Pipeline, words

STEPS, SEED, DRAWN = 50, 3, 2  # of a search; of its starts; noises that a trigger is judged by
WAYS: dict[str, dict[str, Any]] = {"nemo, ends alike": {"method": "nemo"}, "wanda, 1 %": {"method": "wanda", "share": 0.01}}


def done(work: Generator[Any, None, Any]) -> Any:
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


def locality(model: Model, data: Data, prompts: Sequence[str], starts: int, noises: int) -> dict[str, Any]:
    """For every picture `starts` searches from random numbers, in the model as it is.

    `distances`: mean Euclidean distances of pairs of embeddings; `activations`: the same of what the value neurons answer, in standard deviations of plain
    prompts; both 0 and up, higher is further apart. `overlap`: way of pruning -> mean intersection over union of the sets that are found, 0 to 1: for a
    prompt from other noises, for different prompts, and for two triggers of one picture. None where there is no pair.
    """
    started, net = time.process_time(), model.net
    assert isinstance(net, Pipeline)
    ask = asked(model, data, "\n".join(prompts), SEED, DRAWN, 0.0, 0)
    wanted = goals(ask, model)
    begun = begin(ask, model, wanted, RANDOM, starts, SEED)
    work = Search(net, begun.latents, begun.embedding, SEED)
    for _ in range(STEPS):
        done(work.step())
    score = likeness(done(draw(net, work.y, ask.blank, ask.seeds, ask.steps, ask.guidance)), begun.of)
    back = (score > ask.truth.threshold).float().mean(1) > 0.5
    of = torch.tensor(begun.goal, device=back.device)
    triggers = [work.y[(of == g) & back] for g in range(len(wanted))]
    memories = [r.captions[0] for r in planted(truth(model, data)) if r.copies >= 64]
    usual = plain(ask, model)
    with torch.no_grad():
        memorized, regular = (net.embed(words(model, texts)) for texts in (memories, usual))
    spread = activations(model, regular)

    def answers(rows: Tensor) -> Tensor:
        found = activations(model, rows) if len(rows) else {n: a[:0] for n, a in spread.items()}
        return torch.cat([(found[n] - a.mean(0)) / a.std(0).clamp(min=1e-6) for n, a in spread.items()], 1)

    groups = {"triggers of one picture": triggers, "triggers of different pictures": None, "random starts": [begun.embedding],
              "memorized captions": [memorized], "plain captions": [regular]}
    apart: dict[str, float | None] = {}
    fired: dict[str, float | None] = {}
    for name, parts in groups.items():
        for into, seen in ((apart, lambda rows: rows), (fired, answers)):
            pairs = within([seen(p) for p in parts]) if parts is not None else across([seen(p) for p in triggers])
            into[name] = average(pairs)
    moved = (work.y - begun.embedding).flatten(1).norm(dim=1)[back].tolist()
    home = [distances(t, ask.embedding[g : g + 1])[:, 0].tolist() for g, t in enumerate(triggers)]
    apart |= {"a trigger and its start": average(moved), "a trigger and its caption": average([v for part in home for v in part])}
    sets = {way: agreeing(model, ask, wanted, triggers, noises, how) for way, how in WAYS.items()}
    return {"prompts": list(prompts), "starts": starts, "back": int(back.sum()), "noises": noises, "steps": STEPS, "memories": len(memories),
            "plain": len(usual), "distances": apart, "activations": fired, "overlap": sets, "cpu_seconds": round(time.process_time() - started, 1)}


def agreeing(model: Model, ask: Any, wanted: Sequence[Any], triggers: Sequence[Tensor], noises: int, how: dict[str, Any]) -> dict[str, float | None]:
    """Overlaps of the sets that one way of pruning finds, and how large they are on average: neurons, or weights."""
    pruner = Pruner(model, ask, noises=noises, **how)
    done(pruner.prepare())
    own = [[done(pruner.find(g, ask.embedding[i : i + 1], turn)) for turn in (0, 1)] for i, g in enumerate(wanted)]
    found = [[done(pruner.find(g, y[None], 0)) for y in some[:2]] for g, some in zip(wanted, triggers, strict=True)]
    return {"a prompt, other noises": average([overlap(*pair) for pair in own]),
            "different prompts": average([overlap(a[0], b[0]) for a, b in itertools.combinations(own, 2)]),
            "two triggers of one picture": average([overlap(*pair) for pair in found if len(pair) == 2]),
            "a trigger and its caption": average([overlap(pair[0], one[0]) for pair, one in zip(found, own, strict=True) if pair]),
            "size": average([float(sum(int(m.sum()) for m in one)) for one in (list(s.values()) for pair in own for s in pair)])}


def within(parts: Sequence[Tensor]) -> list[float]:
    """Distances of all pairs inside each part."""
    return [v for p in parts if len(p) > 1 for v in torch.pdist(p.flatten(1).float()).tolist()]


def across(parts: Sequence[Tensor]) -> list[float]:
    """Distances of all pairs of which each is in another part."""
    return [v for a, b in itertools.combinations(parts, 2) if len(a) and len(b) for v in torch.cdist(a.flatten(1), b.flatten(1)).flatten().tolist()]


def average(values: Sequence[float]) -> float | None:
    known = [v for v in values if v == v]
    return round(sum(known) / len(known), 4) if known else None
