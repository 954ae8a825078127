"""One net grown live: the bundled grid first, then the losses as they fall, the heads, and how the end compares with the grid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from lab.attention import _repeat_grid as grid
from lab.attention._repeat_corpus import Corpus, table_loss
from lab.attention._repeat_heads import Heads, heads
from lab.attention._repeat_train import HEADS, LAYERS, Loss, Point, Trainer, train
from lab.attention._repeat_verdict import verdict
from lab.events import Curves, Event, Grid, Progress
from models.errors import BadInput

if TYPE_CHECKING:
    from lab.attention.repetition import Repetition


def repetition(settings: Repetition) -> Iterator[Event]:
    """Yields the grid where the settings lie on it, the curves at every measurement, the heads, and last the curves with what they show."""
    yield Progress(0, settings.steps, "reading the bundled grid")
    known = grid.load()
    if settings.steps == 0 and not known:
        raise BadInput("there is no bundled grid", "it was not made yet, or by another recipe", "`python -m bench.repetition` makes it", setting="steps")
    if settings.steps == 0 or on_grid(settings):
        share = settings.share if settings.share in grid.SHARES else max(grid.SHARES)
        if grid.arms(known, share):
            yield grid.drawn(known, share, verdict(known, share))
    if settings.steps:
        yield from live(settings, known)


def on_grid(settings: Repetition) -> bool:
    pools = (*grid.SHARES.get(settings.share, ()), 0)
    return settings.steps == grid.STEPS and settings.share in grid.SHARES and (settings.control or settings.pool in pools)


def live(settings: Repetition, known: Mapping[str, Any]) -> Iterator[Event]:
    yield Progress(0, settings.steps, "writing the documents")
    corpus = Corpus(settings.seed, settings.steps, settings.share, settings.pool, settings.control)
    trainer, points, floor = Trainer(corpus), list[Point](), table_loss(corpus.table, corpus.held)
    told = bundled(settings, known)
    for point in train(trainer, min(grid.EVERY, max(1, settings.steps // 5))):
        if point is None:
            yield Progress(trainer.done, settings.steps, f"step {trainer.done} of {settings.steps}")
        else:
            points.append(point)
            yield curves(settings, corpus, points, floor, told)
    found = heads(trainer.net, *corpus.held_copies)
    yield looked(settings, corpus, found)
    yield curves(settings, corpus, points, floor, (*ended(points, floor, corpus), best(found), *told))


def bundled(settings: Repetition, known: Mapping[str, Any]) -> tuple[str, ...]:
    """What the grid holds of this cell and of its control."""
    if not on_grid(settings):
        return ()
    groups = grid.arms(known, settings.share)
    mine = grid.Cell(settings.share, 0 if settings.control else settings.pool, settings.control, 0).arm
    said = [f"{arm} {grid.values(groups[arm], 'held').mean():.3f} ± {grid.deviation(grid.values(groups[arm], 'held')):.3f}"
            for arm in dict.fromkeys((mine, "unique only")) if arm in groups]
    return (f"the bundled runs of this length ended at, held-out, mean ± deviation over seeds: {', '.join(said)}",) if said else ()


def about(corpus: Corpus) -> str:
    """What is read, in words."""
    if corpus.control:
        return f"the unique documents alone, {corpus.slots:,} places left empty"
    if not corpus.pool or not corpus.slots:
        return "every document is read once"
    return f"{corpus.share:.0%} of the chains from {corpus.pool:,} documents, each read {corpus.reads:,.3g} times"


def curves(settings: Repetition, corpus: Corpus, points: list[Point], floor: float, facts: tuple[str, ...]) -> Curves:
    """Every loss by step; the pool has no line where there is none."""
    lines: dict[str, list[Loss]] = {"held-out chains": [p.held for p in points], "copying": [p.copy for p in points]}
    if len(corpus.pool_docs):
        lines["the repeats themselves"] = [p.pool for p in points]
    value = [[loss.mean for loss in line] for line in lines.values()] + [[floor] * len(points)]
    error = [[loss.error for loss in line] for line in lines.values()] + [[float("nan")] * len(points)]
    return Curves(f"A net grown from nothing: {about(corpus)}", (*lines, "floor: the true table"),
                  np.array([p.step for p in points], float), "steps of training", np.array(value), np.array(error),
                  "nats a token; band: standard error over documents", settings.direction, facts)


def ended(points: list[Point], floor: float, corpus: Corpus) -> tuple[str, ...]:
    last = points[-1]
    pool = f"; the repeats themselves {last.pool.mean:.3f}" if len(corpus.pool_docs) else ""
    rise = grid.largest_rise([p.held.mean for p in points])
    return (f"after {last.step} steps: held-out chains {last.held.mean:.3f}, {last.held.mean - floor:.3f} over the floor; copying {last.copy.mean:.4f}{pool}",
            f"on its way the held-out loss rose by {rise:.3f} at most above its least value before")


def looked(settings: Repetition, corpus: Corpus, found: Heads) -> Grid:
    """The scores of every head after training."""
    names = tuple(f"layer {layer}, head {head}" for layer in range(LAYERS) for head in range(HEADS))
    value = np.stack([found.matching.ravel(), found.copying.ravel()], 1)
    error = np.stack([found.error.ravel(), np.full(len(names), np.nan)], 1)
    return Grid(f"Heads after {settings.steps} steps: {about(corpus)}", names, ("prefix matching", "copying"), "head", "score", value, error,
                "prefix matching: share of attention, 0 to 1; copying: -1 to 1",
                "higher: the head looks more at what followed the last time (matching), and says more of what it looks at (copying); both: an induction head",
                (best(found),), diverging=bool((value < 0).any()))


def best(found: Heads) -> str:
    layer, head = np.unravel_index(found.matching.argmax(), found.matching.shape)
    return (f"best at prefix matching: layer {layer}, head {head}, {found.matching[layer, head]:.3f} of its attention (even attention: {found.chance:.3f}), "
            f"with a copying score of {found.copying[layer, head]:+.2f}")
