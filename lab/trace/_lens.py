"""How the logit lens is run: one pass through the blocks, then one through the head for every layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from lab.events import Event, Grid, Progress
from lab.trace._prompt import Prompt
from lab.trace._tail import Tail, asked
from models.model import Model

if TYPE_CHECKING:
    from lab.trace.lens import LogitLens


def lens(settings: LogitLens, model: Model) -> Iterator[Event]:
    """Yields the grid after every layer, from the first to the last; columns to come are NaN."""
    yield Progress(0, 0, "the model's own answer")
    prompt = asked(model, settings.prompt, settings.answer)
    tail = Tail(model.skeleton(), torch.tensor([prompt.ids], device=model.device))
    count, target = len(tail.states), prompt.answer_ids[0]
    nothing = np.full((len(prompt.ids), count), np.nan)
    now = Grid(f"Logit lens: {prompt.answer}", prompt.tokens, tuple(map(str, range(count))), "token", "layer", nothing, nothing,
               f"probability of {first_token(model, prompt)!r}", settings.direction, notes=(("",) * count,) * len(prompt.ids))
    best = np.zeros(nothing.shape, int)
    for layer in range(count):
        yield Progress(layer, count, f"layer {layer} of {count}")
        log_probs = tail.log_probs(layer)
        value = now.value.copy()
        value[:, layer] = log_probs[:, target].double().exp().cpu().numpy()
        best[:, layer] = log_probs.argmax(-1).cpu().numpy()
        now = replace(now, value=value, notes=tuple((*row[:layer], *said, *row[layer + 1:])
                                                    for row, said in zip(now.notes, words(model, best[:, layer : layer + 1]), strict=True)))
        if layer < count - 1:
            yield now
    gap = (log_probs - tail.clean).abs().max().item()
    yield replace(now, facts=(appears(prompt, now.value[-1], best[-1] == target), f"Largest difference of the last column from the model's own "
                              f"output: {gap:.1g} in log probability, over the whole vocabulary"))


def words(model: Model, ids: np.ndarray) -> list[tuple[str, ...]]:
    """The tokens as they read; one that reads as nothing by its name in the vocabulary, or, where a table is longer than that, by its number."""
    return [tuple(model.tokenizer.decode([i]).strip() or model.tokenizer.convert_ids_to_tokens(i) or f"#{i}" for i in row) for row in ids.tolist()]


def first_token(model: Model, prompt: Prompt) -> str:
    return prompt.answer_tokens[0].strip() or model.tokenizer.convert_ids_to_tokens(prompt.answer_ids[0])


def appears(prompt: Prompt, value: np.ndarray, likeliest: np.ndarray) -> str:
    """From which layer on the last token says the answer: `value` (layers,) are its probabilities, `likeliest` (layers,) where it is first."""
    if not likeliest[-1]:
        return f"The model does not say {prompt.answer!r} here: its probability ends at {value[-1]:.3f}"
    since = len(likeliest) - int(np.argmin(likeliest[::-1])) if not likeliest.all() else 0
    return f"{prompt.answer!r} is the likeliest word from layer {since} on, at {value[since]:.3f}, and ends at {value[-1]:.3f}"
