"""What a model would say next: the likeliest continuations of a prompt, each to the end of its first word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from lab.trace._prompt import Prompt, check_length, encode, longest
from models.model import Model

LONGEST = 8  # tokens of a word


@torch.no_grad()
def next_log_probs(model: Model, ids: Sequence[int]) -> torch.Tensor:
    """(vocabulary,): log-probabilities of the token after `ids`, float32."""
    return model.net(input_ids=torch.tensor([list(ids)], device=model.device), use_cache=False).logits[0, -1].float().log_softmax(-1)


def word(model: Model, ids: Sequence[int], first: int) -> tuple[int, ...]:
    """`first` and the tokens that greedy decoding adds to it until a new word, a mark or the end of the model's positions begins."""
    found = [first]
    while len(found) < min(LONGEST, longest(model) - len(ids)):
        token = int(next_log_probs(model, [*ids, *found]).argmax())
        grown = model.tokenizer.decode([*found, token]).removeprefix(model.tokenizer.decode(found))
        if token in model.tokenizer.all_special_ids or not grown[:1].isalnum():
            break
        found.append(token)
    return tuple(found)


def likeliest(model: Model, log_probs: torch.Tensor, count: int = 5) -> tuple[tuple[str, float], ...]:
    """The likeliest tokens of (vocabulary,) log-probabilities, with their probabilities."""
    best = log_probs.topk(count)
    return tuple(zip([model.tokenizer.decode([i]) for i in best.indices.tolist()], best.values.exp().tolist(), strict=True))


def answered(model: Model, prompt: Prompt) -> Prompt:
    """The prompt with an answer: the model's own likeliest word where none was given."""
    if prompt.answer_ids:
        return prompt
    ids = word(model, prompt.ids, int(next_log_probs(model, prompt.ids).argmax()))
    parts = [model.tokenizer.decode([i]) for i in ids]
    ends = [len("".join(parts[: i + 1]).lstrip()) for i in range(len(parts))]
    return replace(prompt, answer="".join(parts).strip(), answer_ids=ids, answer_spans=tuple(zip([0, *ends[:-1]], ends, strict=True)))


def likely(model: Model, text: str, count: int = 5) -> list[tuple[str, float]]:
    """The likeliest next words after `text`, with the probability of their first tokens. Raises `BadInput` where it is too long."""
    ids, _ = encode(model.tokenizer, text.rstrip())
    check_length(model, len(ids) + 1)
    best = next_log_probs(model, ids).topk(count)
    words = [model.tokenizer.decode(word(model, ids, first)).strip() for first in best.indices.tolist()]
    return [(w, p) for w, p in zip(words, best.values.exp().tolist(), strict=True) if w]


def pieces(model: Model, text: str) -> list[tuple[str, int, int]]:
    """The tokens of `text` that stand for letters of it, with the first letter of each and one past its last."""
    return [(text[a:b], a, b) for a, b in encode(model.tokenizer, text)[1] if b > a]
