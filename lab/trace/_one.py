"""What the experiments about parts of one cell share: the question, the position, and cells run with their scores."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence

import numpy as np

from lab.events import Event, Progress
from lab.trace._case import Case, Question, close_enough
from lab.trace._fact import OneFact
from lab.trace._map import check, told
from lab.trace._prompt import Prompt
from lab.trace._sweep import Cell, plain_sweep, sweep
from models.errors import BadInput
from models.model import Model


def question(ask: OneFact) -> Question:
    return Question(ask.prompt, ask.subject, ask.answer, ask.samples, ask.noise, ask.seed)


def position(prompt: Prompt, token: int) -> int:
    """The place of a token, counted from the end where it is negative. Raises `BadInput` outside the prompt, or where no noise has reached it."""
    count = len(prompt.ids)
    place = token + count if token < 0 else token
    if not 0 <= place < count:
        raise BadInput(f"there is no token {token}", f"the prompt has {count}, from 0 to {count - 1}; -1 is the last", setting="token")
    if place < prompt.subject[0]:
        raise BadInput(f"token {place}, {prompt.tokens[place].strip()!r}, stands before the subject", "the corruption never reaches it",
                       f"Choose a token from {prompt.subject[0]} on", setting="token")
    return place


def effects(model: Model, case: Case, cells: Sequence[Cell], token: int, note: str) -> Generator[Event, None, tuple[np.ndarray, str]]:
    """(cells, runs): the score with each cell restored at `token`, less that of the corrupted run; and how that was checked."""
    while True:
        run = plain_sweep if case.engine == "plain" else sweep
        found = (yield from told(run(case.replay, case.score, cells, token, case.runs), Progress(0, 0, note))).double().cpu().numpy()
        difference = check(case, cells[len(cells) // 2], token, float(found[len(cells) // 2, 0]))
        if not difference > close_enough(model, case):
            checked = "run by whole forwards" if math.isnan(difference) else f"a checked one differs from a whole forward by {difference:.1g}"
            return found - case.corrupted, checked
        case = case.simpler()


def place_of_layer(case: Case, layer: int, site: str) -> int:
    """The number of a layer, counted from the last where it is negative. Raises `BadInput` where the model has none, or it lacks the site."""
    count = case.replay.layers
    place = layer + count if layer < 0 else layer
    if not 0 <= place < count:
        raise BadInput(f"there is no layer {layer}", f"the model has {count}, from 0 to {count - 1}; -1 is the last", setting="layer")
    if (site, place) not in case.replay.taps.kept:
        raise BadInput(f"layer {place} has no single {site}", "its MLP is built in another way", "Choose another layer", setting="layer")
    return place
