"""One prompt made ready to be traced: read, run clean and corrupted, and scored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from lab.trace._ask import answered, likeliest
from lab.trace._corrupt import Corruption, corrupt
from lab.trace._prompt import Prompt, continue_with, encode, read_prompt
from lab.trace._replay import Replay, Unsuitable
from lab.trace._score import Score
from models.errors import BadInput
from models.model import Model

ENGINES = ("suffix", "restart", "plain")
FINE, COARSE, ROUNDING = 1e-5, 3e-2, 5e-7  # of scores around 1: in float32, in half precision, and what float32 cannot tell apart


@dataclass
class Case:
    """`engine` is how cells are run; `clean` and `corrupted` (runs) are scores."""

    prompt: Prompt
    corruption: Corruption
    kind: str  # of the corruption
    score: Score
    foil: str
    top: tuple[tuple[str, float], ...]
    replay: Replay
    engine: str
    clean: float
    corrupted: np.ndarray
    simpler: Callable[[], Case]  # the same question, run in the next slower and simpler way
    log_probs: Tensor | None = None  # of the base pass, where they can be differentiated

    @property
    def runs(self) -> int:
        return len(self.corruption.ids)


@dataclass(frozen=True)
class Question:
    """What the experiments about one fact ask alike."""

    prompt: str
    subject: str
    answer: str
    samples: int
    noise: float
    seed: int
    corruption: str = "gaussian"
    replacement: str = ""
    score: str = "probability"
    foil: str = ""


def prepare(model: Model, ask: Question, subjects: Sequence[str], sites: frozenset[str], start: str = "suffix", graph: bool = False) -> Case:
    """The base pass of a question; with `graph` one that can be differentiated.

    Raises `BadInput` on a question that cannot be traced: see `read_prompt`, `corrupt`, `scored`, and an answer without probability.
    """
    prompt = answered(model, read_prompt(model, ask.prompt, ask.subject, ask.answer))
    corruption = corrupt(model, prompt, subjects, ask.corruption, samples=ask.samples, noise=ask.noise, seed=ask.seed, replacement=ask.replacement)
    engine, replay, log_probs = based(model, prompt, corruption, sites, start, graph)
    found, log_probs = log_probs, log_probs.detach()
    answer = torch.tensor(prompt.answer_ids, device=replay.ids.device)
    likely = Score("probability", answer)(log_probs)
    top = likeliest(model, log_probs[0, 0])
    check_answer(prompt, top, float(likely[0]), log_probs.shape[-1])
    score, foil = scored(model, prompt, ask, answer, log_probs, corruption)
    values = score(log_probs).double().cpu().numpy()
    fitted = replace(corruption, ids=corruption.ids[:, : replay.tokens])

    def simpler() -> Case:
        return prepare(model, ask, subjects, sites, ENGINES[ENGINES.index(engine) + 1])

    return Case(prompt, fitted, ask.corruption, score, foil, top, replay, engine, float(values[0]), values[1:], simpler, found if graph else None)


def based(model: Model, prompt: Prompt, corruption: Corruption, sites: frozenset[str], start: str, graph: bool) -> tuple[str, Replay, Tensor]:
    """The fastest way of running cells, from `start` on, whose base pass the model can run; that pass, and its log-probabilities."""
    ids = torch.tensor([*prompt.ids, *prompt.answer_ids[:-1]], device=corruption.ids.device)
    fitted = replace(corruption, ids=corruption.ids[:, : len(ids)])
    for engine in ENGINES[ENGINES.index(start):]:
        replay = Replay(model, ids, len(prompt.answer_ids), prompt.subject, sites, engine == "suffix", again=engine != "plain")
        try:
            return engine, replay, replay.base(fitted, graph)
        except Unsuitable:
            continue
    raise AssertionError("a base pass that records nothing does not refuse")


def check_answer(prompt: Prompt, top: tuple[tuple[str, float], ...], clean: float, vocabulary: int) -> None:
    if not clean > min(1e-4, 0.5 / vocabulary):
        raise BadInput(f"the model gives {prompt.answer!r} a probability of {clean:.1e} here, so there is nothing to trace",
                       "it does not know this, or it expects other words",
                       f"Leave the answer empty to take the model's own: {top[0][0].strip()!r} ({top[0][1]:.2f})", setting="answer")


def scored(model: Model, prompt: Prompt, ask: Question, answer: Tensor, log_probs: Tensor, corruption: Corruption) -> tuple[Score, str]:
    """The score that was asked for, and the text of its foil."""
    if ask.score != "logit difference":
        return Score(ask.score, answer), ""
    if not ask.foil.strip():  # what the corrupted runs say instead
        likely = log_probs[1:, 0].mean(0)
        likely[answer[0]] = -torch.inf
        foil = int(likely.argmax())
        return Score(ask.score, answer, foil), model.tokenizer.decode([foil]).strip()
    ids, _ = encode(model.tokenizer, prompt.text)
    try:
        other, _ = continue_with(model.tokenizer, prompt.text, ids, ask.foil)
    except BadInput as error:
        raise BadInput(error.fault, error.cause, error.cure, setting="foil") from error
    step = next((i for i, (a, b) in enumerate(zip(prompt.answer_ids, other, strict=False)) if a != b), None)
    if step is None:
        raise BadInput(f"{ask.foil.strip()!r} cannot be told from the answer {prompt.answer!r}", "one begins with all of the other's tokens",
                       "Compare with another answer", setting="foil")
    return Score(ask.score, answer, other[step], step), ask.foil.strip()


def close_enough(model: Model, case: Case) -> float:
    """How far a checked cell may lie from a plain forward: what rounding explains, and in float32 no more than a hundredth of all there is to see."""
    size, total_effect = max(1.0, abs(case.clean), float(np.abs(case.corrupted).max())), abs(case.clean - float(case.corrupted.mean()))
    if model.dtype not in (torch.float32, torch.float64):
        return COARSE * size
    return min(FINE * size, max(total_effect / 100, ROUNDING * size))
