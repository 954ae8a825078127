"""Reads a text token by token, asks copies of the state, and keeps what the memory shows of itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch

from lab.events import Event, Progress
from lab.recall import _watch_views as views
from lab.recall._arch_measure import divergence
from lab.recall._arch_run import chosen
from lab.recall._watch_text import Text, text_of
from models.errors import BadInput
from models.memory import grown, tasks
from models.memory.designs import DESIGNS
from models.memory.net import Reader, State

if TYPE_CHECKING:
    from lab.recall.watch import Watch

EVERY = 0.25  # seconds between two figures


@dataclass
class Seen:
    """What was seen up to now. `remembered[p, t]`: probability of pair p's value, asked after token t, NaN before it stood there. `signals[name][t]` are
    single numbers of a layer, `lookup[name]` its weights over the tokens read so far, at the last token, `routing[name][t]` the gates of a layer."""

    text: Text
    remembered: np.ndarray
    signals: dict[str, list[float]] = field(default_factory=dict)
    lookup: dict[str, np.ndarray] = field(default_factory=dict)
    routing: dict[str, list[np.ndarray]] = field(default_factory=dict)
    read: int = 0
    bytes: int = 0
    effect: np.ndarray | None = None  # of replacing each token, on the last answer
    said: tuple[int, float, float] = (0, float("nan"), float("nan"))  # the likeliest token at the end, its probability, and the answer's


def watch(settings: Watch) -> Iterator[Event]:
    """Yields the figure as it grows, and last the whole."""
    chosen(settings.memory, settings.grown)
    text, net = text_of(settings), grown.load(settings.memory, settings.grown)
    if settings.show == "routing" and "routing" not in net.step(net.start(1), torch.tensor([tasks.START]))[0].seen[0]:
        routed = [name for name in ("mom", "mom-dense") if settings.grown in grown.seeds(name)]
        raise BadInput(f"{DESIGNS[settings.memory].title} has no router", "it has one memory and sends every token there",
                       f"Choose {' or '.join(routed)}" if routed else "None that has one is grown yet: python -m models.memory grow mom", setting="memory")
    seen = Seen(text, np.full((len(text.pairs), len(text.tokens)), np.nan))
    yield Progress(0, len(text.tokens), "reading")
    due = time.perf_counter() + EVERY
    for _ in read(net, seen):
        yield Progress(seen.read, len(text.tokens), "reading")
        if time.perf_counter() > due and settings.show != "looked up":
            yield views.FIGURES[settings.show](settings, seen)
            due = time.perf_counter() + EVERY
    yield Progress(seen.read, len(text.tokens), "replacing every token once")
    seen.effect = replaced(net, text, settings.seed)
    yield views.FIGURES[settings.show](settings, seen)


def read(net: Reader, seen: Seen) -> Iterator[None]:
    """One token at a time. A copy of the state is asked for every pair that was read; the state itself reads on."""
    state = net.start(1)
    for t, token in enumerate(seen.text.tokens):
        with torch.no_grad():
            state, logits = net.step(state, torch.tensor([token]))
            known = [p for p, at in enumerate(seen.text.pairs) if at + 1 <= t]
            if known:
                seen.remembered[known, t] = asked(net, state, seen.text, known)
        look(seen, state)
        odds = logits[0].double().softmax(0)
        seen.read, seen.bytes = t + 1, state.bytes
        seen.said = int(odds.argmax()), float(odds.max()), float(odds[seen.text.answer])
        yield


def asked(net: Reader, state: State, text: Text, known: list[int]) -> np.ndarray:
    """The probability of each known pair's value, if its key came next."""
    copies = State(state.read, tuple({n: t.expand(len(known), *t.shape[1:]) for n, t in kept.items()} for kept in state.kept))
    keys, values = (torch.tensor([text.tokens[text.pairs[p] + i] for p in known]) for i in (0, 1))
    _, logits = net.step(copies, keys)
    return logits.double().softmax(1).gather(1, values[:, None])[:, 0].numpy()


def look(seen: Seen, state: State) -> None:
    """Sorts what the layers show: single numbers, weights over tokens, gates."""
    for layer, shown in enumerate(state.seen, 1):
        for name, value in shown.items():
            key, found = f"layer {layer}: {name}", value[0].double().numpy()
            if name in ("attention", "retrieved"):
                seen.lookup[key] = found
            elif name in ("routing", "looks"):
                seen.routing.setdefault(key, []).append(found)
            elif value.ndim == 1:
                seen.signals.setdefault(key, []).append(float(found))


def replaced(net: Reader, text: Text, seed: int) -> np.ndarray:
    """Of every token but the question: the divergence, in bits, of the last answer when another of its kind stands in its place; the start is left alone."""
    generator, tokens = torch.Generator().manual_seed(seed), torch.tensor(text.tokens)
    many = tokens.repeat(len(tokens), 1)
    for t, token in enumerate(text.tokens[:-1]):
        kind = next((k for k in (tasks.FILLERS, tasks.KEYS, tasks.VALUES) if token in k), None)
        if kind is not None:
            shift = int(torch.randint(1, len(kind), (), generator=generator))
            many[t, t] = kind.start + (token - kind.start + shift) % len(kind)
    with torch.no_grad():
        odds = torch.cat([net(part)[:, -1] for part in many.split(32)]).double().softmax(1)
    effect = divergence(odds, odds[-1:].expand_as(odds)).numpy()  # the last row has nothing replaced
    effect[0] = effect[-1] = np.nan
    return effect
