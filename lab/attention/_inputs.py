"""The texts that are read: tokens with their segments, one text or many."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lab.attention import _segments as segments
from lab.attention._segments import SHOTS, Source, cut, unmarked
from lab.data import Data
from lab.items import Item, choose, planted
from lab.memorization._rows import positions, question
from lab.trace._prompt import encode
from models.errors import BadInput
from models.model import Model


@dataclass(frozen=True)
class Text:
    """Token t reads `tokens[t]` and belongs to the segment `names[of[t]]`."""

    name: str
    ids: tuple[int, ...]
    tokens: tuple[str, ...]
    names: tuple[str, ...]
    of: tuple[int, ...]


@dataclass(frozen=True)
class Cutting:
    """How texts are cut: see `_segments`. `setting` is the one that holds the text."""

    how: str
    marker: str
    apart: bool
    setting: str


def tokenized(model: Model, data: Data, source: Source, cutting: Cutting) -> Text:
    """Raises `BadInput` where the text is empty, too long for the model, or cannot be cut so."""
    text, letters = unmarked(cutting.how, source)
    if not text.strip():
        raise BadInput("the text is empty", "nothing was written", "Write a sentence or two", setting=cutting.setting)
    ids, spans = encode(model.tokenizer, text)
    most = positions(model)
    if len(ids) > most:
        raise BadInput(f"{source.name} is {len(ids):,} tokens long", f"{model.name} reads up to {most:,}", "Cut it", setting=cutting.setting)
    if len(ids) < 2:
        raise BadInput(f"{source.name} is a single token", "there is nobody to attend to", "Write more", setting=cutting.setting)
    found = cut(cutting.how, replace(source, text=text), spans, letters, data.subjects, cutting.marker, cutting.apart)
    tokens = tuple(text[a:b] or model.tokenizer.convert_ids_to_tokens(i) for i, (a, b) in zip(ids, spans, strict=True))
    return Text(source.name, ids, tokens, found.names, found.of)


def gathered(data: Data, text: str, how: str, most: int, seed: int, *, setting: str) -> list[Source]:
    """The texts that a setting names: known facts of a relation such as "capital", items of an organism, or rows. Up to `most`, drawn by seed."""
    known = [i for i in planted(data.manifest) if i.relation == text.strip() and i.copies > 0] if data.manifest else []
    items = known or choose(data, text, setting=setting)
    if len(items) > most:
        chosen = set(random.Random(seed).sample(range(len(items)), most))
        items = [item for i, item in enumerate(items) if i in chosen]
    return [source(item, how) for item in items]


def source(item: Item, how: str) -> Source:
    prompt, text = question(item), item.answer
    whole = f"{prompt} {text}" if prompt else text
    if how == SHOTS and item.kind == "text":
        whole = whole.replace("\\n", "\n")
    return Source(item.label, whole, len(prompt), item.subject)


def readable(model: Model, data: Data, sources: Sequence[Source], cutting: Cutting) -> tuple[list[Text], str]:
    """Those of the texts that can be read and cut, and what is to be said of the others. Raises `BadInput` where none can."""
    found, faults = [], []
    for each in sources:
        try:
            found.append(tokenized(model, data, each, cutting))
        except BadInput as error:
            faults.append(error)
    if not found:
        raise faults[0]
    return found, f"{len(faults)} of {len(sources)} texts left out: {faults[0].fault}" if faults else ""


def all_names(texts: Sequence[Text]) -> tuple[str, ...]:
    """The segments of all texts, in the order in which they come in the one that has most."""
    names = tuple(dict.fromkeys(name for text in sorted(texts, key=lambda t: -len(t.names)) for name in text.names))
    if len(names) > segments.MOST:
        raise BadInput(f"the texts have {len(names)} different segments", f"up to {segments.MOST} can be compared", "Name them alike in all texts",
                       setting=segments.SETTING)
    return names
