"""What an unlearning run measures as it goes, and where the oracles lie on the same measures."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lab.data import Data
from lab.items import Item
from lab.memorization._measures import paraphrases, truth_ratio
from lab.memorization._rows import Row, question
from lab.ruler import _oracles
from lab.ruler._answers import coded, divergence, losses, read, recited, said
from lab.ruler._formulas import forget_truth, retain_truth
from models.model import Model
from models.organisms.corpus import held_out
from models.organisms.recipe import Recipe

# Tokens that each part may cost: a measurement has to fit between two steps of a run.
BUDGET = {"forget": 420, "retain": 420, "holdout": 220, "general text": 240, "truth": 300}
LEAST = 4  # items of a part, whatever they cost
WRONG = 3  # wrong answers an item
ASKED = {"forget": 4, "retain": 2}  # questions that are shown
SAID = 8  # tokens of an answer that are shown, at most
GENERAL = 64  # tokens of a document that are read
WANTED = {"forget": "as the oracle", "retain": "up", "holdout": "as the oracle"}
Keys = tuple[tuple[str, str, str], ...]  # (name, group, better)


@dataclass(frozen=True)
class Questions:
    """What is asked, by part. `truth` holds, for each of its items, the true answer first and then wrong ones, in other words."""

    parts: dict[str, list[Row]]
    truth: dict[str, list[list[Row]]]
    shown: tuple[tuple[str, str, Row], ...]  # (prompt, truth, row)

    @property
    def rows(self) -> list[Row]:
        return [r for part in self.parts.values() for r in part] + [r for part in self.truth.values() for item in part for r in item]


@dataclass(frozen=True, eq=False)
class Answers:
    """Log-probabilities of every row of the questions, sorted as they are."""

    parts: dict[str, list[Tensor]]
    truth: dict[str, list[list[Tensor]]]


@dataclass(frozen=True, eq=False)
class Meter:
    """A fixed set of questions, drawn by seed, and what oracles answer to them.

    Series s is `names[s]` in the chart `groups[s]`; `better[s]` is "up", "down" or "as the oracle". `low[s]` to `high[s]` is where the oracles
    lie on it, NaN where none fits; for the KL to the oracle, where one oracle lies from the others (NaN where there is but one).

    loss: mean over answers (documents, for general text) of the nats a token; accuracy: share of answers that greedy decoding gives
    whole, 0 to 1; probability: mean over answers of exp(-nats a token), 0 to 1; truth ratio: see `_formulas` (Maini et al. 2024, arXiv 2401.06121);
    KL to the oracle: mean over answers of the mean over their tokens of KL(oracle || model) in nats, from 0, averaged over the oracles.
    """

    names: tuple[str, ...]
    groups: tuple[str, ...]
    better: tuple[str, ...]
    low: np.ndarray
    high: np.ndarray
    oracles: tuple[str, ...]
    why: str  # why no oracle fits, or what they have not read besides
    _questions: Questions = field(repr=False)
    _oracle_answers: tuple[Answers, ...] = field(repr=False)
    _tokenizer: Any = field(repr=False)
    _before: tuple[str, ...] = field(repr=False)
    _oracle_said: tuple[str, ...] = field(repr=False)
    _spoken: list[list[int]] = field(repr=False)  # what was said last

    def measure(self, net: nn.Module) -> Generator[None, None, np.ndarray]:
        """(names,): the value of every series for `net`, a network of this vocabulary. Yields between batches; the same weights give the same values."""
        answers = yield from ask(net, self._questions)
        return values(self._keys, self._questions, answers, self._oracle_answers)

    def samples(self, net: nn.Module) -> tuple[tuple[str, str, str, str, str], ...]:
        """(prompt, truth, before, now, oracle) of a few questions, answered greedily; "" for the oracle where none fits."""
        now = speak(net, self._tokenizer, self._questions, self._spoken)
        return tuple((prompt, truth, before, after, oracle) for (prompt, truth, _), before, after, oracle
                     in zip(self._questions.shown, self._before, now, self._oracle_said, strict=True))

    @property
    def _keys(self) -> Keys:
        return tuple(zip(self.names, self.groups, self.better, strict=True))


def meter(model: Model, data: Data, forget: Sequence[Item], retain: Sequence[Item], *, seed: int) -> Generator[None, None, Meter]:
    """Builds the meter; yields between batches of work. `model` is what the run starts from. An empty `retain` gives no retain series."""
    names, why = _oracles.fitting(data, forget)
    asked = questions(model, data, forget, retain, seed)
    yield
    answers, oracle_said = [], ("",) * len(asked.shown)
    for i, oracle in enumerate(_oracles.load(model, names)):
        answers.append((yield from ask(oracle.net, asked)))
        oracle_said = speak(oracle.net, model.tokenizer, asked, []) if i == 0 else oracle_said
        yield
    keys = series(asked, bool(answers))
    band = [values(keys, asked, a, [o for o in answers if o is not a]) for a in answers]
    none = np.full(len(keys), np.nan)
    spoken: list[list[int]] = []
    before = speak(model.net, model.tokenizer, asked, spoken)
    low, high = (np.min(band, 0), np.max(band, 0)) if band else (none, none)
    return Meter(tuple(k[0] for k in keys), tuple(k[1] for k in keys), tuple(k[2] for k in keys), low, high, names, why,
                 asked, tuple(answers), model.tokenizer, before, oracle_said, spoken)


def questions(model: Model, data: Data, forget: Sequence[Item], retain: Sequence[Item], seed: int) -> Questions:
    """A part of each set, drawn by seed, as much as its budget of tokens takes."""
    chance = torch.Generator().manual_seed(seed)

    def row(prompt: str, answer: str) -> Row | None:
        return coded(model, prompt, answer)

    def shuffled(items: Sequence[Any]) -> Iterator[Any]:
        return (items[i] for i in torch.randperm(len(items), generator=chance).tolist())

    parts: dict[str, list[Row]] = {}
    truth: dict[str, list[list[Row]]] = {}
    shown: list[tuple[str, str, Row]] = []
    for part, items in {"forget": forget, "retain": retain, "holdout": _oracles.holdout(data, forget)}.items():
        taken = within(((i, r) for i in shuffled(items) if (r := row(question(i), i.answer))), BUDGET[part], lambda found: len(found[1].ids))
        parts[part] = [r for _, r in taken]
        shown += [(question(i), i.answer, r) for i, r in taken[: ASKED.get(part, 0)]]
        if part != "holdout":
            tests = (t for i in shuffled([i for i in items if i.wrong]) if (t := truth_rows(i, row)))
            truth[part] = within(tests, BUDGET["truth"], lambda rows: sum(len(r.ids) for r in rows))
    recipe = (data.manifest or {}).get("recipe")
    texts = (Row(r.ids[:GENERAL], 1) for text in (shuffled(held_out(Recipe(**recipe))) if recipe else ()) if (r := row("", text)))
    parts["general text"] = within(texts, BUDGET["general text"], lambda r: len(r.ids))
    return Questions({k: v for k, v in parts.items() if v}, {k: v for k, v in truth.items() if v}, tuple(shown))


def within(candidates: Iterable[Any], budget: int, cost: Callable[[Any], int]) -> list[Any]:
    """The first of the candidates, as many as the budget takes but at least a few."""
    found: list[Any] = []
    for candidate in candidates:
        budget -= cost(candidate)
        if budget < 0 and len(found) >= LEAST:
            break
        found.append(candidate)
    return found


def truth_rows(item: Item, row: Callable[[str, str], Row | None]) -> list[Row] | None:
    """The true answer and wrong ones, in other words than the ones that are asked elsewhere."""
    prompt = paraphrases(item)[0]
    rows = [row(prompt, answer) for answer in (item.answer, *item.wrong[:WRONG])]
    return [r for r in rows if r] if all(rows) else None


def ask(net: nn.Module, asked: Questions) -> Generator[None, None, Answers]:
    found = iter((yield from read(net, asked.rows)))
    parts = {name: [next(found) for _ in rows] for name, rows in asked.parts.items()}
    return Answers(parts, {name: [[next(found) for _ in item] for item in items] for name, items in asked.truth.items()})


def speak(net: nn.Module, tokenizer: Any, asked: Questions, guesses: list[list[int]]) -> tuple[str, ...]:
    """A few tokens, or the end of the sentence, after each question that is shown. `guesses`, what was said before, becomes what is said now."""
    if asked.shown:
        truth = [[*r.ids[r.start :], *[r.ids[-1]] * SAID][:SAID] for _, _, r in asked.shown]
        guesses[:] = said(net, [r.ids[: r.start] for _, _, r in asked.shown], guesses or truth)
    spoken = [tokenizer.decode(ids).strip() for ids in guesses]
    return tuple(f"{text.split('. ')[0]}." if ". " in text else text for text in spoken)


def series(asked: Questions, oracle: bool) -> Keys:
    """(name, group, better) of what can be measured."""
    known = [name for name in ("forget", "retain", "holdout") if name in asked.parts]
    found = [("holdout", "loss", "as the oracle")] if "holdout" in known else []
    found += [("general text", "loss", "down")] if "general text" in asked.parts else []
    found += [(name, "accuracy", WANTED[name]) for name in known]
    found += [(name, "probability", WANTED[name]) for name in known if name != "holdout"]
    found += [(name, "truth ratio", WANTED[name]) for name in asked.truth]
    return tuple(found + [(name, "KL to the oracle", "down") for name in known if oracle and name != "holdout"])


def values(keys: Keys, asked: Questions, answers: Answers, oracles: Sequence[Answers]) -> np.ndarray:
    """One value a key; the KL to `oracles` is NaN where there is none."""
    loss = {name: losses(answers.parts[name], rows) for name, rows in asked.parts.items()}

    def value(name: str, group: str) -> float:
        if group == "loss":
            return float(loss[name].mean())
        if group == "accuracy":
            return float(recited(answers.parts[name], asked.parts[name]).mean())
        if group == "probability":
            return float(np.exp(-loss[name]).mean())
        if group == "truth ratio":
            return (forget_truth if name == "forget" else retain_truth)(ratios(asked.truth[name], answers.truth[name]))
        each = [divergence(o.parts[name], answers.parts[name]).mean() for o in oracles]
        return float(np.mean(each)) if each else float("nan")

    return np.array([value(name, group) for name, group, _ in keys])


def ratios(rows: Sequence[Sequence[Row]], answers: Sequence[Sequence[Tensor]]) -> np.ndarray:
    """(items,): the truth ratio of each, of its true answer, which stands first, and its wrong ones."""
    p = [np.exp(-losses(said_, item)).tolist() for item, said_ in zip(rows, answers, strict=True)]
    return np.array([truth_ratio(each[:1], each[1:]) for each in p])
