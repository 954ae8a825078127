"""What is stored in a text and asked for again: statements that tie a key to a value, with a cue that names the key."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lab.attention._head_texts import words as vocabulary_words
from lab.memorization._rows import encode
from lab.recall._settings import BELONGINGS, CODES, PLACES, TOKENS
from models.errors import BadInput
from models.model import Model
from models.organisms import prose_words as words

ANCHOR = "."  # what text is encoded after, so that it begins with a blank as in the middle of a text
FEWEST = 2  # keys and values, each
PAIRED = 200  # random tokens that serve as keys or as values


@dataclass(frozen=True)
class Form:
    """`statement` holds {k} and {v}; `cue` holds {k}, and ends where the value would follow."""

    statement: str
    cue: str
    keys: Sequence[str]
    values: Sequence[str]


FORMS = {
    PLACES: Form("Meanwhile Adam carried a {k} to the {v} and went out slowly.", "The {k} is still in the", words.OBJECTS, words.ROOMS),
    BELONGINGS: Form("{k} had a {v} and kept it in the drawer in the kitchen.", "So {k} found the", [*words.GIRLS, *words.BOYS], words.OBJECTS),
    CODES: Form("The vault code of {k} is {v}.", "The vault code of {k} is", [*words.GIRLS, *words.BOYS],
                [str(10_000 + 7919 * i % 90_000) for i in range(1, 200)]),
}


@dataclass(frozen=True)
class Stock:
    """Statements and cues as token ids. `said[k][v]` states that key k has value v; `cues[k]` asks; `answers[v]` is the first token that tells value v.

    All cues are of one length, and all values. `spoken[v]` are all tokens of value v from there on, `stop` ends a sentence. `names` are the keys in words,
    `told` the values.
    """

    kind: str
    names: tuple[str, ...]
    told: tuple[str, ...]
    said: tuple[tuple[tuple[int, ...], ...], ...]
    cues: tuple[tuple[int, ...], ...]
    answers: tuple[int, ...]
    spoken: tuple[tuple[int, ...], ...]
    stop: tuple[int, ...]

    @property
    def longest(self) -> int:
        return max(len(s) for row in self.said for s in row)

    @property
    def asking(self) -> int:
        return len(self.cues[0])

    @property
    def planted(self) -> frozenset[int]:
        """Tokens that a haystack must not hold: those of the answers."""
        return frozenset(self.answers)


def stock(model: Model, kind: str, *, setting: str = "material") -> Stock:
    """Raises `BadInput` where the tokenizer cannot tell two values, or two keys, apart."""
    if kind == TOKENS:
        return pairs(model)
    return stated(model, kind, FORMS[kind], FEWEST, setting)


def own(model: Model, needle: str, question: str, values: str) -> Stock:
    """The needle that somebody wrote: a statement with {v} where the value stands, what asks for it, and values with commas between."""
    if "{v}" not in needle:
        raise BadInput("the needle does not say where its value stands", "it holds no {v}", "Write it such as: The password of the lighthouse is {v}.",
                       setting="needle")
    if not question.strip():
        raise BadInput("nothing asks for the needle", "the question is empty", "Write the words after which the value would follow", setting="question")
    told = list(dict.fromkeys(v.strip() for v in values.split(",") if v.strip()))
    if len(told) < FEWEST:
        raise BadInput("a needle needs values that could be told apart", f"there is {len(told)}", "Give two or more with commas between, of one kind",
                       setting="values")
    plain = [x.replace("{k}", "{{k}}").strip() for x in (needle, question)]
    return stated(model, "needle", Form(plain[0], plain[1], [""], told), 1, "values")


def stated(model: Model, kind: str, form: Form, keys_needed: int, setting: str) -> Stock:
    """The form in tokens. Raises `BadInput` where the tokenizer cannot tell two values apart, or fewer than `keys_needed` keys."""
    tokenizer = model.tokenizer
    asked = usual(dict(zip(form.keys, following_all(tokenizer, [form.cue.format(k=k) for k in form.keys]), strict=True)))
    some = next(iter(asked), "")
    told = following_all(tokenizer, [f"{form.cue.format(k=some)} {v}" for v in form.values])
    whole = {v: ids[len(asked[some]) :] for v, ids in zip(form.values, told, strict=True)} if asked else {}
    whole = usual({v: ids for v, ids in whole.items() if ids})
    shared = common(list(whole.values()))
    firsts = {v: ids[shared] for v, ids in whole.items() if len(ids) > shared}
    values = list({first: v for v, first in reversed(list(firsts.items()))}.values())[::-1]  # of values with one first token, the first
    unknown = tokenizer.unk_token_id
    keys = list({ids: k for k, ids in reversed(list(asked.items())) if unknown is None or unknown not in ids}.values())[::-1]
    values = [v for v in values if firsts[v] != unknown]
    if len(keys) < keys_needed or len(values) < FEWEST:
        raise BadInput(f"{model.name} cannot tell these {kind} apart", "its tokenizer does not know the words, or begins all of them alike",
                       "Choose tokens as the material, or other words", setting=setting)
    flat = following_all(tokenizer, [form.statement.format(k=k, v=v) for k in keys for v in values])
    said = tuple(tuple(flat[i : i + len(values)]) for i in range(0, len(flat), len(values)))
    lead = whole[values[0]][:shared]
    return Stock(kind, tuple(keys), tuple(values), said, tuple((*asked[k], *lead) for k in keys), tuple(firsts[v] for v in values),
                 tuple(whole[v][shared:] for v in values), following(tokenizer, "there.")[-1:])


def pairs(model: Model) -> Stock:
    """Random tokens: a statement is a key and its value, and the cue is the key: what an induction head, or a copy, can tell whatever the language."""
    known = vocabulary_words(model)
    count = min(PAIRED, len(known) // 4)  # the other half is left for the haystack
    if count < FEWEST:
        raise BadInput(f"{model.name} has {len(known)} words", "its tokenizer is too small to draw from", "Choose another model", setting="model")
    spread = known[:: max(1, len(known) // (2 * count))][: 2 * count]
    keys, values = spread[::2], spread[1::2]
    told: Any = model.tokenizer.convert_ids_to_tokens
    return Stock(TOKENS, tuple(map(str, told(keys))), tuple(map(str, told(values))), tuple(tuple((k, v) for v in values) for k in keys),
                 tuple((k,) for k in keys), tuple(values), tuple((v,) for v in values), ())


def following(tokenizer: Any, text: str) -> tuple[int, ...]:
    """Token ids of `text` as it stands within a text, after a full stop and a blank."""
    return following_all(tokenizer, [text])[0]


def following_all(tokenizer: Any, texts: Sequence[str]) -> list[tuple[int, ...]]:
    """The same of many texts, which takes one call."""
    before = encode(tokenizer, ANCHOR)
    found = []
    for text, ids in zip(texts, tokenizer([f"{ANCHOR} {t}" for t in texts])["input_ids"], strict=True):
        while len(ids) > 1 and ids[-1] in (tokenizer.eos_token_id, tokenizer.sep_token_id):
            ids.pop()
        found.append(tuple(ids[len(before) :] if ids[: len(before)] == before else tokenizer(text, add_special_tokens=False)["input_ids"]))
    return found


def usual(ids: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Those of the commonest length, so that rows can be read together without padding; of two as common, the shorter."""
    if not ids:
        return {}
    counts = Counter(len(i) for i in ids.values())
    length = min(counts, key=lambda n: (-counts[n], n))
    return {k: i for k, i in ids.items() if len(i) == length}


def common(rows: Sequence[tuple[int, ...]]) -> int:
    """How many tokens all rows begin with."""
    return next((i for i, tokens in enumerate(zip(*rows, strict=False)) if len(set(tokens)) > 1), min(map(len, rows), default=0))
