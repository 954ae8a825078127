"""A prompt as a model sees it: tokens, where the subject stands, and the tokens of the answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from models.errors import BadInput
from models.model import Model

MAX_TOKENS = 256  # a map of more tokens can be neither read nor run while someone waits


@dataclass(frozen=True)
class Prompt:
    text: str
    ids: tuple[int, ...]
    tokens: tuple[str, ...]  # as they read in the text
    subject: tuple[int, int]  # first token that touches the subject, and one past the last
    answer: str
    answer_ids: tuple[int, ...]

    @property
    def answer_tokens(self) -> tuple[str, ...]:
        return tuple(self.answer[i:j] for i, j in self.answer_spans)

    answer_spans: tuple[tuple[int, int], ...] = ()
    name: str = ""  # the subject, letter by letter


def read_prompt(model: Model, text: str, subject: str, answer: str) -> Prompt:
    """Raises `BadInput`, naming the setting, where the prompt is empty or too long or the subject does not stand in it."""
    tokenizer, text = model.tokenizer, text.rstrip()
    if not text.strip():
        raise BadInput("the prompt is empty", cure='Write the beginning of a sentence, such as "The capital of France is"', setting="prompt")
    if not subject.strip():
        raise BadInput("the subject is empty", cure="Click the tokens of the subject, or type words of the prompt", setting="subject")
    begin = text.find(subject.strip())
    if begin < 0:
        raise BadInput(f"{subject.strip()!r} does not stand in the prompt", "the subject is a part of the prompt, letter by letter",
                       "Pick it by clicking its tokens", setting="subject")
    ids, spans = encode(tokenizer, text)
    answer_ids, answer_spans = continue_with(tokenizer, text, ids, answer) if answer.strip() else ((), ())
    check_length(model, len(ids) + max(1, len(answer_ids)))  # an answer that the model chooses has one token at least
    end = begin + len(subject.strip())
    inside = [i for i, (a, b) in enumerate(spans) if a < end and b > begin]
    if not inside:
        raise BadInput(f"no token of the prompt holds {subject.strip()!r}", "the tokenizer drops these letters", setting="subject")
    return Prompt(text, ids, tuple(text[a:b] or tokenizer.convert_ids_to_tokens(i) for i, (a, b) in zip(ids, spans, strict=True)),
                  (inside[0], inside[-1] + 1), answer.strip(), answer_ids, answer_spans, subject.strip())


def longest(model: Model) -> int:
    """How many tokens prompt and answer may have together: positions that the model has, and no more than can be read."""
    return min(MAX_TOKENS, getattr(model.net.config, "max_position_embeddings", MAX_TOKENS) or MAX_TOKENS)


def check_length(model: Model, tokens: int) -> None:
    """Raises `BadInput` where so many tokens of prompt and answer are too many."""
    if tokens > longest(model):
        raise BadInput(f"prompt and answer are {tokens} tokens long", f"{model.name} is traced on up to {longest(model)}",
                       "Shorten the prompt", setting="prompt")


def encode(tokenizer: Any, text: str) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
    """Token ids of `text` with the marks that the tokenizer puts before it, and the letters that each covers.

    A mark that it puts after the text is left out: what follows the prompt is the answer.
    """
    if not tokenizer.is_fast:
        raise BadInput(f"the tokenizer {type(tokenizer).__name__} cannot say which letters a token covers", "it is not a fast tokenizer",
                       "Choose a model that has a tokenizer.json", setting="model")
    coded = tokenizer(text, return_offsets_mapping=True)
    ids, spans = list(coded["input_ids"]), [(a, b) for a, b in coded["offset_mapping"]]
    while len(ids) > 1 and spans[-1] == (0, 0) and ids[-1] in tokenizer.all_special_ids:
        del ids[-1], spans[-1]
    return tuple(ids), tuple(spans)


def continue_with(tokenizer: Any, text: str, ids: tuple[int, ...], answer: str) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
    """The tokens that `answer` adds to `text`, after a space, and the letters of the answer that each covers."""
    whole = f"{text} {answer.strip()}"
    longer, spans = encode(tokenizer, whole)
    if longer[: len(ids)] != ids:
        raise BadInput(f"the tokenizer reads {answer.strip()!r} together with the end of the prompt", "it has a token that spans both",
                       "End the prompt with a whole word", setting="answer")
    start = len(text) + 1
    if len(longer) == len(ids):
        raise BadInput(f"no token stands for {answer.strip()!r}", "the tokenizer drops these letters", setting="answer")
    return longer[len(ids):], tuple((max(a - start, 0), max(b - start, 0)) for a, b in spans[len(ids):])
