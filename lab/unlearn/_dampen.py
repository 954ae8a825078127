"""One run of selective synaptic dampening: importance on both sets, then one change of the weights."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import torch

from lab.data import Data
from lab.events import Edited, Event, Progress
from lab.unlearn._fisher import dampened, fisher
from lab.unlearn._private import Private
from lab.unlearn._sets import Batch, Deck
from lab.unlearn._watched import Watched
from models.model import Model

if TYPE_CHECKING:
    from lab.unlearn.ssd import SelectiveSynapticDampening


def dampen(settings: SelectiveSynapticDampening, model: Model, data: Data) -> Iterator[Event]:
    yield Progress(0, 1, "reading the sets")
    run = Watched(settings, model, data, retains=True)
    run.private = private = Private(model, None, 0, settings.seed)
    names = tuple(private.change()[0])
    yield run.event(change=(names, [0.0] * len(names)))
    yield from run.measured(run.prepare_meter())
    yield run.event(change=(names, [0.0] * len(names)))
    yield Edited(0, private.frozen(settings.title), run.look())
    assert run.sets.retain
    forget = yield from told(private, texts(run.sets.forget, settings.samples), "forget")
    kept = yield from told(private, texts(run.sets.retain, settings.samples), "retain")
    now = {n: p.detach() for n, p in private.trained.items()}
    new, where = dampened(now, forget, kept, settings.alpha, settings.strength)
    private.restore(new)
    run.step, run.passes = 1, sum(min(settings.samples, len(d.texts)) for d in (run.sets.forget, run.sets.retain)) / 16
    yield from run.measured(run.measure())
    chosen = share(private, where)
    total = sum(int(w.sum()) for w in where.values()) / sum(w.numel() for w in where.values())
    facts = (f"{total:.3%} of all weights were dampened; the bars show the share in each layer", "cost counts 16 texts as one fine-tuning step")
    said = "the weights were dampened once" if total else "no weight matters so much more to the forget set: lower alpha"
    yield run.event(said, facts, chosen)
    yield Edited(1, private.frozen(settings.title), run.look())


def texts(deck: Deck, most: int) -> list[Batch]:
    """Up to `most` texts of a set, drawn by seed, each a batch of its own."""
    return [deck.draw(1) for _ in range(min(most, len(deck.texts)))]


def told(private: Private, found: list[Batch], name: str) -> Generator[Event, None, dict[str, torch.Tensor]]:
    work = fisher(private.net, private.trained, found)
    while True:
        try:
            done = next(work)
        except StopIteration as end:
            return end.value
        yield Progress(done, len(found), f"importance of the weights to the {name} set, text {done} of {len(found)}")


def share(private: Private, where: dict[str, torch.Tensor]) -> tuple[tuple[str, ...], list[float]]:
    """For every part of the net the share of its weights that were chosen."""
    chosen, total = dict[str, int](), dict[str, int]()
    for n, w in where.items():
        part = private.layer.get(n, "rest")
        chosen[part], total[part] = chosen.get(part, 0) + int(w.sum()), total.get(part, 0) + w.numel()
    return tuple(chosen), [chosen[p] / total[p] for p in chosen]
