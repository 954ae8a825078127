"""A run over the turns of a conversation, with two memories."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lab.events import Curves, Event, Progress, Table
from lab.progress import retold
from lab.recall._encode import encoded
from lab.recall._halumem import CORRECT, Scores
from lab.recall._hema import Memory, Plan
from lab.recall._talk import ASKED, CHANGED, SAID, SUPPOSED, UNKNOWN, Turn
from lab.recall._talk import conversation as talk
from models.errors import BadInput

if TYPE_CHECKING:
    from lab.recall.conversation import LongConversation

SHOWN, PATIENCE = 20, 0.1  # figures in a run, and seconds without a word
ABOUT = {
    "extraction: recall": "share of what was said that was taken down right; higher is better",
    "extraction: weighted recall": "the same, weighted by importance; higher is better",
    "extraction: accuracy": "mean grade of what was taken down; higher is better",
    "extraction: F1": "harmonic mean of recall and accuracy; higher is better",
    "extraction: resistance": "share of suppositions not taken for true; higher is better",
    "update: correct": "after a change, the new value alone is held; higher is better",
    "update: conflict": "the new value and another are held; lower is better",
    "update: hallucination": "a value is held that was never true, and not the new one; lower is better",
    "update: omission": "the new value is not held; lower is better",
    "answers: correct": "share of questions; silence is right where nobody ever said; higher is better",
    "answers: hallucination": "a wrong value; lower is better",
    "answers: omission": "silence though it was said; lower is better",
    "answers: stale": "of all answers, those that were true once; part of the hallucinations; lower is better",
}


@dataclass
class Listener:
    name: str
    memory: Memory
    scores: Scores


def conversation(settings: LongConversation) -> Iterator[Event]:
    """Yields the figure some twenty times as the conversation goes on."""
    yield Progress(0, settings.turns, "making up a conversation")
    turns = talk(settings.turns, settings.people, settings.recent, settings.seed)
    vectors = yield from retold(encoded([t.text for t in turns], settings.encoder), lambda done: Progress(done, settings.turns, "encoding what is said"))
    names = [settings.first, settings.second] if settings.first != settings.second else [settings.first]
    if settings.compact == 0 and "compact only" in names:
        raise BadInput("a compact memory of no points remembers nothing", cure="Give it some, or choose another memory", setting="compact")
    listeners = [Listener(name, Memory(plan(settings, name), vectors.shape[1]), Scores()) for name in names]
    since, every = time.monotonic(), max(1, settings.turns // SHOWN)
    for now, turn in enumerate(turns):
        for each in listeners:
            heard(each, turn, now, vectors[now])
        if (now + 1) % every == 0:
            yield view(settings, listeners, turns[: now + 1])
        elif time.monotonic() - since > PATIENCE:
            since = time.monotonic()
            yield Progress(now + 1, settings.turns, "listening")
    yield view(settings, listeners, turns)


def plan(settings: LongConversation, keeps: str) -> Plan:
    return Plan(keeps, settings.capacity, settings.half_life, settings.compact, settings.found, settings.reader == "careful", settings.fault,
                settings.rate if settings.fault != "none" else 0.0, settings.seed)


def heard(each: Listener, turn: Turn, now: int, vector: np.ndarray) -> None:
    """One memory hears one turn, and is graded on it."""
    memory, scores = each.memory, each.scores
    memory.renew(now)
    if turn.kind in (ASKED, UNKNOWN):
        scores.answered(turn, memory.answer(turn.text, vector), now)
    points = memory.extract(turn.text)
    for key, value in points:
        memory.write(key, value, now, vector)
    if turn.kind in (SAID, CHANGED):
        scores.said(turn, points)
    elif turn.kind == SUPPOSED:
        scores.supposed(points)
    else:
        scores.heard(points)
    if turn.kind == CHANGED:
        scores.changed(turn, memory.values(turn.key))


def view(settings: LongConversation, listeners: list[Listener], turns: list[Turn]) -> Event:
    held = " · ".join(f"{each.name}: {len(each.memory.points)} points, {len(each.memory.searchable) * each.memory.size * 4 / 1024:.4g} KiB of vectors"
                      for each in listeners)
    kinds = {kind: sum(t.kind == kind for t in turns) for kind in (SAID, CHANGED, SUPPOSED, ASKED, UNKNOWN)}
    facts = (f"{len(turns)} turns: {', '.join(f'{count} {kind}' for kind, count in kinds.items())}", held,
             f"{settings.encoder} encoder, {settings.reader} reader" + (f", fault: {settings.fault}, {settings.rate:.0%}" if settings.fault != "none" else ""))
    if settings.show == "scores":
        return table(listeners, facts)
    return (over_turns if settings.show == "turns" else by_age)(settings, listeners, turns, facts)


def table(listeners: list[Listener], facts: tuple[str, ...]) -> Table:
    figures = [each.scores.figures() for each in listeners]
    rows = tuple((name, *(None if np.isnan(f[name]) else f[name] for f in figures), about) for name, about in ABOUT.items())
    return Table("Two memories in one conversation", ("score", *(each.name for each in listeners), "what it is"),
                 ("operation and score", *("share, 0 to 1" for _ in listeners),
                  "and which way is better"), rows, facts, "nothing of this kind has been asked yet")


def right(each: Listener) -> np.ndarray:
    return np.array([a == CORRECT for a in each.scores.answers], float)


def shares(hits: np.ndarray) -> tuple[float, float]:
    """Mean and binomial standard error, NaN of nothing."""
    return (float(hits.mean()), float(np.sqrt(hits.mean() * (1 - hits.mean()) / len(hits)))) if len(hits) else (np.nan, np.nan)


def over_turns(settings: LongConversation, listeners: list[Listener], turns: list[Turn], facts: tuple[str, ...]) -> Curves:
    """Right answers in ten stretches of the conversation."""
    when = np.array([i for i, t in enumerate(turns) if t.kind in (ASKED, UNKNOWN)], int)
    edges = np.linspace(0, settings.turns, 11)
    both = np.array([[shares(right(each)[(when >= a) & (when < b)]) for a, b in zip(edges, edges[1:], strict=False)] for each in listeners])
    return Curves("Right answers as the conversation goes on", tuple(each.name for each in listeners), (edges[1:] + edges[:-1]) / 2, "turn", both[..., 0],
                  both[..., 1], "share of questions answered rightly", "higher: better", facts)


def by_age(settings: LongConversation, listeners: list[Listener], turns: list[Turn], facts: tuple[str, ...]) -> Curves:
    """Right answers by the age of what is asked for, questions for what was never said left out."""
    edges = np.array([0, 10, 30, 100, 200, 400, 800, 10**9], float)
    edges = np.append(edges[edges < settings.turns], settings.turns)
    age = np.array(listeners[0].scores.ages)
    both = np.array([[shares(right(each)[(age >= a) & (age < b)]) for a, b in zip(edges, edges[1:], strict=False)] for each in listeners])
    return Curves("Right answers by age", tuple(each.name for each in listeners), (edges[1:] + edges[:-1]) / 2, "turns since it was said", both[..., 0],
                  both[..., 1], "share of questions answered rightly", "higher: better", facts)
