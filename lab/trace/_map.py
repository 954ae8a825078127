"""The map of one prompt: an approximation of all cells at once, then the exact ones row by row, the most promising token first."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from lab.data import Data
from lab.events import Event, Progress, TraceMap
from lab.trace._case import ENGINES, Case, Question, close_enough, prepare
from lab.trace._gradient import estimates, gradients, windowed
from lab.trace._score import SMALL, standard_error
from lab.trace._sites import BLOCK
from lab.trace._sweep import Cell, cell, plain, plain_sweep, sweep
from models.errors import BadInput
from models.model import Model, blocks

if TYPE_CHECKING:
    from lab.trace.causal import CausalTrace

DEEP, WIDE = 48, 10  # the window that Meng et al. chose, and the depth they chose it for


def windows(kind: str, width: int, layers: int) -> tuple[tuple[int, int], ...]:
    """For each layer the layers restored together: [max(0, l - w // 2), min(layers, l - w // 2 + w)), so shorter at the edges."""
    if kind not in ("mlp", "attention"):
        return tuple((layer, layer + 1) for layer in range(layers))
    width = min(width or max(2, round(layers * WIDE / DEEP)), 2 * layers)
    below = width // 2
    return tuple((max(0, layer - below), min(layers, layer - below + width)) for layer in range(layers))


@dataclass
class Plan:
    """What a map runs: the cells of a row, and which of them can differ from the corrupted run."""

    kind: str
    windows: tuple[tuple[int, int], ...]

    @property
    def site(self) -> str:
        return self.kind.removeprefix("severed ")

    @property
    def sites(self) -> frozenset[str]:
        return frozenset({BLOCK, self.site})

    def cells(self, case: Case) -> list[Cell]:
        """A cell a layer. In a hybrid some blocks have no attention: there is nothing to restore in them."""
        each = [cell(self.kind, layer, window, len(self.windows)) for layer, window in enumerate(self.windows)]
        return [tuple(o for o in one if (o.site, o.layer) in case.replay.taps.kept) for one in each]

    def runs(self, case: Case, token: int) -> list[int]:
        """The layers of the cells that have to be run. No other token reads what the last block gives at one, so there only a token that speaks matters."""
        if token < case.prompt.subject[0]:
            return []
        speaks, last = token == len(case.prompt.ids) - 1, len(self.windows) - 1
        return [layer for layer, one in enumerate(self.cells(case)) if one and (speaks or one[0].layer < last)]


def trace(settings: CausalTrace, model: Model, data: Data) -> Iterator[Event]:
    """Yields the map after the base pass (approximated, if asked for), then after every token, the one with the largest approximation first."""
    plan = Plan(settings.kind, windows(settings.kind, settings.window, len(blocks(model.net))))
    yield Progress(0, 0, "clean and corrupted runs")
    ask = question(settings)
    case = prepare(model, ask, data.subjects, plan.sites, graph=settings.preview and "severed" not in plan.kind)
    case.replay.taps.check(plan.site)
    now = approximated(case, plan, empty(case, plan))
    yield rescaled(now, settings.normalised)
    order = sorted(range(len(now.tokens)), key=lambda t: -float(np.abs(now.approximation[t]).max()) if t in now.pending else 0.0)
    checked = False
    for done, token in enumerate(order):
        step = Progress(done, len(order), f"token {done + 1} of {len(order)}")
        scores = yield from row(case, plan, token, step)
        while not checked and plan.runs(case, token):
            layers = plan.runs(case, token)
            layer = layers[len(layers) // 2]
            difference = check(case, plan.cells(case)[layer], token, float(scores[layer, 0]))
            checked = not difference > close_enough(model, case)
            if not checked:  # this way of running cells is not right for the model: take the next, slower and simpler
                case = case.simpler()
                scores = yield from row(case, plan, token, step)
            now = replace(now, engine=case.engine, check=difference)
        now = with_row(case, plan, now, token, scores)
        if done == len(order) - 1:
            case.replay.close()  # a run that is stopped leaves its private net to the collector
        yield replace(step, done=done + 1)
        yield rescaled(now, settings.normalised)


def question(settings: CausalTrace) -> Question:
    return Question(settings.prompt, settings.subject, settings.answer, settings.samples, settings.noise, settings.seed,
                    settings.corruption, settings.replacement, settings.score, settings.foil)


def check(case: Case, one: Cell, token: int, score: float) -> float:
    """How far the score of a cell in the first corrupted run lies from a plain hooked forward; NaN where that is how it was run."""
    if case.engine == ENGINES[-1]:
        return math.nan
    theirs = plain(case.replay, case.score, one, token, torch.zeros(1, dtype=torch.long, device=case.replay.ids.device))
    case.replay.flops += case.replay.loop_flops(1, 0)
    return abs(score - float(theirs[0]))


def row(case: Case, plan: Plan, token: int, progress: Progress) -> Generator[Event, None, np.ndarray]:
    """Scores (layers, runs) of a token's cells; of those that need no run, the corrupted score."""
    scores = np.repeat(case.corrupted[None], len(plan.windows), 0)
    layers, cells = plan.runs(case, token), plan.cells(case)
    if layers:
        run = plain_sweep if case.engine == "plain" else sweep
        found = yield from told(run(case.replay, case.score, [cells[layer] for layer in layers], token, case.runs), progress)
        scores[layers] = found.double().cpu().numpy()
    return scores


def told(run: Generator[None, None, torch.Tensor], progress: Progress) -> Generator[Event, None, torch.Tensor]:
    """Runs to the end and says so between batches, so that it can be stopped there."""
    while True:
        try:
            next(run)
        except StopIteration as end:
            return end.value
        yield progress


def empty(case: Case, plan: Plan) -> TraceMap:
    """The map before any cell was run."""
    prompt, layers = case.prompt, len(plan.windows)
    blank = np.full((len(prompt.tokens), layers), np.nan)
    run = sum(len(plan.runs(case, token)) for token in range(len(prompt.tokens)))
    return TraceMap(
        prompt.text, prompt.tokens, prompt.subject, prompt.answer, prompt.answer_tokens, tuple(range(layers)), blank, blank, case.clean,
        float(case.corrupted.mean()), standard_error(case.corrupted), case.runs, case.corruption.std, case.top, approximation=blank, pending=(),
        kind=plan.kind, windows=plan.windows, score=case.score.kind, corruption=case.kind, foil=case.foil, replaced=case.corruption.replaced,
        engine=case.engine, check=math.nan, cells=blank.size, filled=blank.size - run, flops=case.replay.flops,
        loop_flops=case.replay.loop_flops(blank.size, case.runs), rerouted=case.replay.routes.told(prompt.subject[0]))


def approximated(case: Case, plan: Plan, now: TraceMap) -> TraceMap:
    """The map with every cell to first order, where the base pass can be differentiated."""
    if case.log_probs is None:
        return now
    found = gradients(case.replay, case.log_probs, case.score)
    case.log_probs = None  # and with it the graph
    each = windowed(estimates(case.replay, found, plan.site, len(now.tokens)), plan.windows).double().cpu().numpy()
    each[:, : case.prompt.subject[0]] = 0.0  # where the corruption never comes, rows of a batch differ by rounding alone
    error = standard_error(each)
    return replace(now, effect=each.mean(0), effect_se=error, approximation=each.mean(0), pending=tuple(range(len(now.tokens))),
                   flops=case.replay.flops)


def with_row(case: Case, plan: Plan, now: TraceMap, token: int, scores: np.ndarray) -> TraceMap:
    effect, error = now.effect.copy(), now.effect_se.copy()
    effect[token] = scores.mean(1) - now.corrupted
    error[token] = standard_error((scores - case.corrupted).T)
    return replace(now, effect=effect, effect_se=error, pending=tuple(t for t in now.pending if t != token), flops=case.replay.flops,
                   rerouted=case.replay.routes.told(case.prompt.subject[0]))


def rescaled(now: TraceMap, normalised: bool) -> TraceMap:
    """The same map in shares of what the corruption took away, if so wanted."""
    if not normalised:
        return now
    if abs(now.total_effect) < SMALL:
        raise BadInput(f"the corruption took {now.total_effect:.1e} from the score, too little to measure shares of it",
                       "the answer does not depend on this subject, or the noise is weak", "Switch normalised off, or corrupt more strongly",
                       setting="normalised")
    scale = 1 / now.total_effect
    return replace(now, effect=now.effect * scale, effect_se=now.effect_se * abs(scale), approximation=now.approximation * scale, clean=1.0,
                   corrupted=0.0, corrupted_se=now.corrupted_se * abs(scale), score=f"{now.score} recovered")
