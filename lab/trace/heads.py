"""Single attention heads: what one head adds to one token is put back alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.events import Event, Grid
from lab.experiment import setting
from lab.trace._fact import OneFact

if TYPE_CHECKING:
    from lab.data import Data
    from models.model import Model


@dataclass(frozen=True, kw_only=True)
class HeadTrace(OneFact):
    """The subject is corrupted with noise; then, for every head of every layer, what the clean run had of it at one token is put back alone.

    A head is one of the query heads: its part of what goes into the attention's last matrix, also where several heads share keys and values.
    """

    title = "Causal trace of single heads"
    paper = "Zhang & Nanda 2024, arXiv 2309.16042; Meng et al. 2022, arXiv 2202.05262"
    direction = "higher: restoring this head's output at this token alone brings more of the answer's probability back"
    token: int = setting(-1, "At which token; 0 is the first, -1 the last", low=-256, high=255)

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        import numpy as np

        from lab.events import Progress
        from lab.trace._case import prepare
        from lab.trace._one import effects, position, question
        from lab.trace._score import standard_error
        from lab.trace._sites import HEAD, query_heads
        from lab.trace._sweep import Override

        yield Progress(0, 0, "clean and corrupted runs")
        case = prepare(model, question(self), data.subjects, frozenset({HEAD}))
        case.replay.taps.check(HEAD, "model", "Choose another model")
        token, heads = position(case.prompt, self.token), query_heads(model.net)
        places = []
        for layer in range(case.replay.layers):
            width = case.replay.kept(HEAD, layer).shape[-1] // heads if (HEAD, layer) in case.replay.taps.kept else 0
            places += [(layer, head, width) for head in range(heads) if width]
        value = np.full((heads, case.replay.layers), np.nan)
        error = value.copy()
        cells = [(Override(layer, HEAD, head * width, (head + 1) * width),) for layer, head, width in places]
        found, checked = yield from effects(model, case, cells, token, "heads")
        for (layer, head, _), one in zip(places, found, strict=True):
            value[head, layer], error[head, layer] = one.mean(), standard_error(one)
        prompt = case.prompt
        yield Grid(
            f"{prompt.text} → {prompt.answer}", tuple(f"head {h}" for h in range(heads)), tuple(map(str, range(case.replay.layers))), "head", "layer",
            value, error, "probability of the answer that came back", self.direction, diverging=True,
            facts=(f"restored at token {token}, {prompt.tokens[token].strip()!r}",
                   f"P = {case.clean:.3f} undisturbed · P* = {case.corrupted.mean():.3f} with noise · {case.runs} noise samples", checked))
