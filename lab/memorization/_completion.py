"""The probability and rank of every token of one text, and its greedy completion."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from lab.data import Data
from lab.events import Completion, Event, Progress
from lab.items import choose
from lab.memorization._decode import greedy
from lab.memorization._measures import extraction_strength
from lab.memorization._rows import Row, positions, question, row_of
from models.errors import BadInput
from models.model import Model

if TYPE_CHECKING:
    from lab.memorization.completion import TokenByToken


def complete(settings: TokenByToken, model: Model, data: Data) -> Iterator[Event]:
    """Yields the completion with an empty `said` as soon as the text is read, and the whole one at the end."""
    yield Progress(0, settings.tokens, "reading the text")
    title, row = chosen(settings, model, data)
    event = scored(model, row, title, settings.direction)
    yield event
    said: list[int] = []
    for i, batch in enumerate(greedy(model, [row.ids[: row.start]], [settings.tokens])):
        said = batch.get(0, said)
        yield Progress(min(i + 1, settings.tokens), settings.tokens, "saying what follows")
    yield replace(event, said=model.tokenizer.decode(said, skip_special_tokens=True))


def chosen(settings: TokenByToken, model: Model, data: Data) -> tuple[str, Row]:
    """A title, and the text that the settings name. Raises `BadInput` where there is none, or where it is too long."""
    prompt, answer, where = settings.prompt.strip(), settings.answer.strip(), "prompt"
    if not prompt and not answer:
        if data.manifest is None:
            raise BadInput("there is no text", "the model is no organism, so it has no items", "Give a prompt and an answer", setting="prompt")
        found, where = choose(data, settings.item, setting="item"), "item"
        if len(found) != 1:
            raise BadInput(f"{settings.item!r} names {len(found)} items", "one is read at a time", f"Such as {found[0].name}", setting="item")
        title, prompt, answer = found[0].label, question(found[0]), found[0].answer
    else:
        title = f"{prompt} {answer}".strip()
    row = row_of(model, prompt, answer) if answer else row_of(model, "", prompt)
    if not answer:
        row = Row(row.ids, len(row.ids))
    if len(row.ids) > positions(model):
        raise BadInput(f"the text is {len(row.ids)} tokens long", f"{model.name} reads up to {positions(model)}", "Cut it", setting=where)
    return title if len(title) <= 60 else f"{title[:59]}…", row


@torch.no_grad()
def scored(model: Model, row: Row, title: str, direction: str) -> Completion:
    ids = torch.tensor([row.ids], device=model.device)
    log_probs = model.net(input_ids=ids, use_cache=False).logits[0, :-1].float().log_softmax(-1)
    mine = log_probs.gather(1, ids[0, 1:, None])
    rank = 1 + (log_probs > mine).sum(1)
    best = log_probs.argmax(-1).tolist()
    probability = np.array([math.nan, *mine[:, 0].exp().tolist()])
    ranks = np.array([math.nan, *rank.tolist()], float)
    words = [model.tokenizer.decode([i]) for i in row.ids]
    answer = probability[row.start :]
    lines: tuple[str, ...] = ()
    if len(answer):
        first = ranks[row.start :] == 1
        lines = (f"{int(first.sum())} of {len(answer)} tokens of the answer are the likeliest; extraction strength {extraction_strength(first):.2f}",
                 f"probability of the answer: {math.exp(np.log(answer).mean()):.3f} a token, {answer.prod():.2g} as a whole")
    return Completion(title, tuple(words), row.start, probability, ranks, ("", *(model.tokenizer.decode([i]) for i in best)), "", direction, lines)
