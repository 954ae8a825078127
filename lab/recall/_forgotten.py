"""Facts asked closed book and open book, of two models."""

from __future__ import annotations

import random
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
import torch

from lab.attention._compared import other
from lab.data import Data
from lab.events import Event, Progress, Scatter, Table
from lab.items import Item, choose
from lab.memorization._rows import positions, question
from lab.recall._cells import cell, start
from lab.recall._fidelity import last
from lab.recall._haystack import general
from lab.recall._material import Stock, common, following, stock
from lab.recall._measures import Answers, answered, divergence, waited
from lab.recall._numbers import mean_and_error
from lab.recall._policies import Policy, Reader
from lab.recall._settings import MATERIALS, TOKENS
from models.errors import BadInput
from models.model import Model

if TYPE_CHECKING:
    from lab.recall.forgotten import ForgottenOrUnread

READ = 0.05  # bits of fidelity below which nothing that could be lost is read
GENERAL, NEAR = 12, 8  # general statements, and how far back they are asked for
ABOUT = {
    "closed book": "nats by which the true answer beats the wrong one, nothing told; higher: the fact is known",
    "open book, told the truth": "the same, after the truth was told; higher: read, or known",
    "open book, told otherwise": "nats by which the wrong answer beats the true one after it was told; higher: what is told is read, whatever is known",
    "margin of what was told": "mean of the two above: what is known cancels out; nats, higher: what is told is read",
    "fidelity": "Jensen-Shannon divergence of the next token between the two tellings; bits, 0 to 1, higher: what is told is read",
}


@dataclass(frozen=True)
class Fact:
    """Token ids: what is told, true and false, and the question up to the token that tells the two answers apart."""

    item: Item
    true: tuple[int, ...]
    false: tuple[int, ...]
    ask: tuple[int, ...]
    answers: tuple[int, int]


def forgotten(settings: ForgottenOrUnread, model: Model, data: Data) -> Iterator[Event]:
    """Yields the figure after every fact of the second model, then with general statements. A is the other model, B this one."""
    yield Progress(0, 0, "loading the other model")
    before = other(model, data, settings.against)
    items = choose(data, settings.items, setting="items")
    random.Random(settings.seed).shuffle(items)
    pair = [Reader(m, Policy.of(settings)) for m in (before, model)]
    facts = [facts_of(m, items, settings) for m in (before, model)]
    if [f.item for f in facts[0]] != [f.item for f in facts[1]]:
        raise BadInput("the two models cannot be asked for the same facts", "their tokenizers differ", "Compare models of one family", setting="against")
    found: list[np.ndarray] = []
    for i, reader in enumerate(pair):
        rows = np.full((len(facts[i]), len(ABOUT)), np.nan)
        found.append(rows)
        for j, fact in enumerate(facts[i]):
            rows[j] = yield from waited(asked(reader, fact, settings), i * len(facts[0]) + j, 2 * len(facts[0]))
            yield Progress(i * len(facts[0]) + j + 1, 2 * len(facts[0]), f"{reader.model.name}: {fact.item.label}")
    skills = []
    for reader, stored in zip(pair, told_of(before, model), strict=True):
        cells = cell(reader.model, stored, min(NEAR, positions(model) // 4), 1, GENERAL, f"skill {settings.seed}")
        skills.append((yield from last(answered(reader, cells, stored), Answers)))
    yield view(settings, pair, facts[1], found, skills)


def told_of(*models: Model) -> list[Stock]:
    """General statements that the tokenizers of all models can tell apart; random tokens at worst."""
    for kind in MATERIALS:
        try:
            return [stock(m, kind) for m in models]
        except BadInput:
            if kind == TOKENS:
                raise
    raise AssertionError


def facts_of(model: Model, items: list[Item], settings: ForgottenOrUnread) -> list[Fact]:
    """Up to `most` facts. A wrong answer is one of the organism's, or that of another item. Raises `BadInput` where none can be asked."""
    found, length = [], positions(model)
    for i, item in enumerate(items):
        wrongs = [*item.wrong, *(x.answer for x in (*items[i + 1 :], *items[:i]))]
        made = next((f for f in (fact(model, item, wrong) for wrong in wrongs[:20]) if f is not None), None)
        if made is not None and len(start(model)) + max(len(made.true), len(made.false)) + settings.lag + len(made.ask) <= length:
            found.append(made)
        if len(found) == settings.most:
            break
    if len(found) < 2:
        raise BadInput(f"{len(found)} of {len(items)} facts can be asked", f"a fact needs a wrong answer beside it, and has to fit {length} tokens when "
                       f"told and asked "
                       "for", "Name more facts, or a shorter distance", setting="items")
    return found


def fact(model: Model, item: Item, wrong: str) -> Fact | None:
    """The fact, told in the last phrasing that was trained and asked in the first; None where both answers begin alike to their end."""
    ask, telling = question(item), item.prompts[-1] if item.prompts else item.prompt
    if not ask:
        return None
    true, false = (following(model.tokenizer, f"{ask} {a}") for a in (item.answer, wrong))
    shared = common([true, false])
    if shared in (0, len(true), len(false)):
        return None
    said = [following(model.tokenizer, f"{telling} {a}.") for a in (item.answer, wrong)]
    return Fact(item, said[0], said[1], true[:shared], (true[shared], false[shared]))


def asked(reader: Reader, fact: Fact, settings: ForgottenOrUnread) -> Generator[None, None, np.ndarray]:
    """The five figures of ABOUT."""
    model = reader.model
    between = list(islice(general(model, f"forgotten {settings.seed} {fact.item.name}"), settings.lag))
    right, wrong = fact.answers
    logits = []
    for told in ((), fact.true, fact.false):
        context = [*start(model), *told, *(between if told else [])]
        ids = [torch.tensor([x], device=model.device) for x in (context, list(fact.ask))]
        if not context:  # without a start token nothing stands before the question
            logits.append(reader.forward(ids[1], 1)[0, -1])
        else:
            logits.append((yield from reader.asking(ids[0], ids[1]))[0, -1])
        yield
    gaps = [float(x[right] - x[wrong]) for x in logits]
    return np.array([gaps[0], gaps[1], -gaps[2], (gaps[1] - gaps[2]) / 2, float(divergence(logits[1], logits[2]))])


def view(settings: ForgottenOrUnread, pair: list[Reader], facts: list[Fact], found: list[np.ndarray], skills: list[Answers]) -> Event:
    a, b = (r.model.name for r in pair)
    told: tuple[str, ...] = (f"A: {a} · B: {b} · {pair[1].policy.label}", f"{len(facts)} facts, {settings.lag} tokens between telling and question")
    told = (*told, verdict(found, skills)) if not np.isnan(found[-1]).any() and len(found) == 2 else told
    if settings.show == "facts":
        return scatter(settings, facts, found, told)
    if settings.show == "table":
        return table(facts, found, told)
    rows = [line(name, found[0][:, i], found[1][:, i], ABOUT[name]) for i, name in enumerate(ABOUT)]
    if skills:
        rows += [line(f"general statements: {n}", getattr(skills[0], m), getattr(skills[1], m), about) for n, m, about in (
            ("fidelity", "cued", "the same divergence for statements that have nothing to do with the facts"),
            ("recall", "recall", "share whose answer is the likeliest of all values in stock; 0 to 1"))]
    return Table("A forgotten fact, or a forgotten skill of reading", ("measure", "A", "B", "B − A", "± B − A", "what it is"),
                 ("what is asked", "mean of the other model", "mean of this model", "what became of it", "standard error of the paired differences",
                  "its unit and its direction"), tuple(rows), told)


def line(name: str, a: np.ndarray, b: np.ndarray, about: str) -> tuple[str | float | None, ...]:
    gap, error = mean_and_error(b - a)
    return (name, float(a.mean()), float(b.mean()), float(gap), None if np.isnan(error) else float(error), about)


def verdict(found: list[np.ndarray], skills: list[Answers]) -> str:
    """What two standard errors allow to be said: of knowing, from closed book, and of reading, from the facts where A read them, else from general
    statements."""
    known = fell(found[0][:, 0], found[1][:, 0])
    own = found[0][:, 4].mean() >= READ
    if not own and not skills:
        return "the facts are known less" if known else "the facts are known as before"
    before, after = (x[:, 4] for x in found) if own else (s.cued for s in skills)
    where = "what is told of them" if own else "of the facts nothing that is told was read even by A; general statements are"
    if not own and before.mean() < READ:
        reading = "A reads neither what is told of them nor general statements, so nothing can be said of reading"
    else:
        less = fell(before, after)
        reading = f"{where} {'is' if own else ''} read {'less too' if less and known else 'less' if less else 'as before'}".replace("  ", " ")
    return f"the facts are known {'less' if known else 'as before'}; {reading}"


def fell(before: np.ndarray, after: np.ndarray) -> bool:
    gap, error = mean_and_error(after - before)
    return bool(gap < -2 * error)


def scatter(settings: ForgottenOrUnread, facts: list[Fact], found: list[np.ndarray], told: tuple[str, ...]) -> Scatter:
    labels = tuple(f"{which}: {f.item.label}" for which in "AB" for f in facts)
    both = np.concatenate(found)
    return Scatter("Known, and read", labels, both[:, 0], both[:, 3], "closed book: nats over the wrong answer", "open book: nats by which what was told wins",
                   False, settings.direction, told)


def table(facts: list[Fact], found: list[np.ndarray], told: tuple[str, ...]) -> Table:
    columns = ("fact", *(f"{which}: {name}" for name in ABOUT for which in "AB"))
    about = ("which item", *(about for about in ABOUT.values() for _ in "AB"))
    rows: list[tuple[str | float | None, ...]] = []
    for f, a, b in zip(facts, *found, strict=True):
        rows.append((f.item.label, *(float(x) for pair in zip(a, b, strict=True) for x in pair)))
    return Table("Known, and read, fact by fact", columns, about, tuple(rows), told)
