"""The layers and the terms of selective amnesia. Agrawal & Huang 2025, arXiv 2504.12996."""

from __future__ import annotations

import random
from collections.abc import Generator
from dataclasses import replace

from torch import nn

from lab.data import Data
from lab.events import Event, Progress, TraceMap
from lab.items import Item
from lab.trace._map import trace
from lab.trace._roles import average, points_at
from lab.trace._sites import DENSE, MLP, anatomy
from lab.trace.causal import CausalTrace
from lab.unlearn._formulas import mean, nll, together
from lab.unlearn._method import Method, Terms
from lab.unlearn._sets import Batch, Deck, Sets
from models.errors import BadInput
from models.model import Model, blocks

LOW, HIGH = 1.2, 2.3  # of the retain weight
SAMPLES = 5  # of noise, of each fact


class Amnesia(Method):
    forwards, backwards, retains = 2, 2, True

    def __init__(self, asked: str, traced: int, seed: int) -> None:
        self.asked, self.traced, self.seed = asked.strip(), traced, seed
        self.first: list[float] = []  # retain losses of the first epoch
        self.where = "they were named"

    def prepare(self, model: Model, data: Data, sets: Sets) -> Generator[Event, None, None]:
        self.forget: Deck = sets.forget
        self.layers = parsed(self.asked, len(blocks(model.net))) if self.asked else (yield from self.pointed(model, data, sets.forget.items))

    def pointed(self, model: Model, data: Data, forget: list[Item]) -> Generator[Event, None, range]:
        """The layers that an averaged causal trace of facts of the forget set points at."""
        facts = [i for i in forget if i.subject and i.subject in i.prompt]
        if not facts:
            raise BadInput("no layer can be chosen by tracing", "nothing in the forget set has a subject that could be disturbed",
                           "Name the layers, such as 0-5", setting="layers")
        maps = []
        for i, fact in enumerate(random.Random(self.seed).sample(facts, min(self.traced, len(facts)))):
            step = Progress(i, min(self.traced, len(facts)), f"tracing fact {i + 1}: {fact.label}")
            yield step
            asked = CausalTrace(prompt=fact.prompt, subject=fact.subject, answer=fact.answer, samples=SAMPLES, preview=False, seed=self.seed)
            found = yield from finished(asked, model, data, step)
            maps += [found] if found else []
        if not maps:
            raise BadInput("no layer can be chosen by tracing", "the model knows none of the facts that were traced", "Name the layers", setting="layers")
        first, end, best = points_at(average(maps)[0])
        self.where = f"an averaged trace of {len(maps)} facts points there, with {best:.2f} at its best"
        return range(first, end)

    def trained(self, model: Model) -> set[str] | None:
        width = model.net.config.get_text_config(decoder=True).hidden_size  # type: ignore[union-attr,operator]
        stack = list(blocks(model.net))
        parts = [anatomy(stack[layer], width) for layer in self.layers]
        ids = {id(p) for part in parts if (m := part.get(DENSE) or part.get(MLP)) is not None for p in m.parameters()}
        return {n for n, p in model.net.named_parameters() if id(p) in ids}

    def facts(self) -> tuple[str, ...]:
        return (f"MLPs of layers {self.layers[0]}-{self.layers[-1]} are trained: {self.where}",)

    def terms(self, net: nn.Module, forget: Batch, retain: Batch | None) -> Terms:
        assert retain is not None
        found, there = together(net, forget, retain)
        kept = mean(nll(there, retain), retain)
        weight = self.weight(float(kept.detach()))
        total = -mean(nll(found, forget), forget) + weight * kept
        return Terms(total, {("weight", "retain weight", "as it must"): weight})

    def weight(self, kept: float) -> float:
        """a, for a retain loss of this step."""
        if self.forget.epoch <= 1:
            self.first.append(kept)
            return LOW
        return adaptive(kept - sum(self.first) / len(self.first))


def adaptive(rise: float) -> float:
    """clip(round(0.3 * 6^rise + 0.8, 1), 1.2, 2.3)."""
    return min(HIGH, max(LOW, round(0.3 * 6 ** min(rise, 10.0) + 0.8, 1)))


def finished(asked: CausalTrace, model: Model, data: Data, step: Progress) -> Generator[Event, None, TraceMap | None]:
    """The finished map; None where the model does not know the fact."""
    last = None
    try:
        for event in trace(asked, model, data):
            last = event if isinstance(event, TraceMap) else last
            yield replace(step)
    except BadInput as error:
        if error.setting != "answer":
            raise
    return last


def parsed(text: str, depth: int) -> range:
    """The layers of a text such as "2" or "0-5". Raises `BadInput` on what is neither, or not in the model."""
    first, _, last = text.partition("-")
    try:
        found = range(int(first), int(last or first) + 1)
    except ValueError:
        found = range(0)
    if not found or found[0] < 0 or found[-1] >= depth:
        raise BadInput(f"layers is {text!r}", f"the model has layers 0 to {depth - 1}", "Write one number, or two with a dash, such as 0-5", setting="layers")
    return found
