"""The text that a memory is watched on: read from words, or written with one pair planted where it is wanted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from models.errors import BadInput
from models.memory import tasks

if TYPE_CHECKING:
    from lab.recall.watch import Watch

LONGEST = 512


@dataclass(frozen=True)
class Text:
    """`pairs` are the places of the keys that stand with a value after them; `needle` is the place of the one that the last token asks for."""

    tokens: tuple[int, ...]
    pairs: tuple[int, ...]
    needle: int

    @property
    def answer(self) -> int:
        return self.tokens[self.needle + 1]


NAMES = {tasks.name(token): token for token in range(tasks.TOKENS)}


def text_of(settings: Watch) -> Text:
    return read(settings.text) if settings.text.strip() else write(settings)


def read(words: str) -> Text:
    """Raises `BadInput` naming a word that is none, a text that is too long, or a last token that asks for nothing."""
    said = words.split()
    unknown = [word for word in said if word not in NAMES]
    if unknown:
        raise BadInput(f"{unknown[0]!r} is no word of these nets", "they know w1 to w32, keys k1 to k64, values v1 to v16 and <pass>",
                       "Write for example: w3 k5 v2 w9 w1 k5", setting="text")
    tokens = [NAMES[word] for word in said]
    tokens = tokens if tokens[:1] == [tasks.START] else [tasks.START, *tokens]
    if len(tokens) > LONGEST:
        raise BadInput(f"the text has {len(tokens):,} tokens", cure=f"Take at most {LONGEST}", setting="text")
    pairs = [i for i, (one, two) in enumerate(zip(tokens, tokens[1:], strict=False)) if one in tasks.KEYS and two in tasks.VALUES]
    needle = [i for i in pairs if tokens[i] == tokens[-1]]
    if not needle:
        raise BadInput("the text asks for nothing", "its last word is no key that stands earlier with a value after it",
                       f"End it with {tasks.name(tokens[pairs[-1]])}" if pairs else "Plant a pair, such as k5 v2, and end with k5", setting="text")
    latest = {tokens[i]: i for i in pairs}  # a key that was given another value since has that one
    return Text(tuple(tokens), tuple(sorted(latest.values())), needle[-1])


def write(settings: Watch) -> Text:
    """Words, `pairs` pairs of which one stands at `depth`, and the question for that one at the end."""
    slots = (settings.length - 2) // 2  # places of two tokens between START and the question
    if settings.pairs > slots:
        raise BadInput(f"{settings.pairs} pairs do not fit into {settings.length} tokens", cure=f"Take at most {slots}, or a longer text", setting="pairs")
    generator = torch.Generator().manual_seed(settings.seed)
    tokens = tasks.haystack(1, settings.length, generator).tokens[0].tolist()
    planted = round(settings.depth * (slots - 1))
    others = [s for s in torch.randperm(slots, generator=generator).tolist() if s != planted][: settings.pairs - 1]
    keys = (tasks.KEYS.start + torch.randperm(len(tasks.KEYS), generator=generator)).tolist()
    values = tasks.draw(tasks.VALUES, (settings.pairs,), generator).tolist()
    for slot, key, value in zip((planted, *others), keys, values, strict=False):
        tokens[1 + 2 * slot], tokens[2 + 2 * slot] = key, value
    tokens[-1] = keys[0]
    return Text(tuple(tokens), tuple(sorted(1 + 2 * s for s in (planted, *others))), 1 + 2 * planted)
