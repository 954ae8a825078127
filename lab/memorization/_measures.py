"""Measures of memorization of items, each with its range, its direction and its paper, and the passes over a model that give them.

A pass is a generator of `{item index: {measure name: value}}`, batch after batch, so that a run can be shown and stopped in between.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from lab.items import Item
from lab.memorization._decode import greedy
from lab.memorization._exposure import ranking
from lab.memorization._read import Reading, read
from lab.memorization._rows import Row, encode, question, row_of, rows_of
from lab.memorization._words import rouge_l, says
from models.model import Model

Found = Iterator[dict[int, dict[str, float]]]

FREE = 12  # tokens that are said beyond the length of the answer, where it may stand anywhere
ASKED = 2  # trained phrasings that are asked beside the held-out ones, and phrasings of a truth ratio
TINY = 1e-10  # probability: no truth ratio is infinite
PERCENT = 20.0  # k of min-k % and min-k++ %


@dataclass(frozen=True)
class Measure:
    """`sign` 1: higher is more memorized; -1: lower is. `needs` is the pass that gives it."""

    name: str
    about: str  # one sentence with the range
    sign: int
    paper: str
    needs: str


MEASURES = tuple(Measure(*m) for m in (
    ("probability", "exp(-mean loss) of the answer's tokens after the prompt, 0 to 1", 1, "Maini et al. 2024, arXiv 2401.06121", "read"),
    ("whole probability", "probability of the whole answer, the product over its tokens, 0 to 1", 1, "Carlini et al. 2019, arXiv 1802.08232", "read"),
    ("answer loss", "mean negative log-likelihood of the answer's tokens in nats, 0 and up", -1, "Maini et al. 2024, arXiv 2401.06121", "read"),
    ("extraction strength", "1 - k/T: the answer has T tokens, and after its first k greedy decoding gives all others; 0 to 1", 1,
     "Carlini et al. 2021, arXiv 2012.07805", "read"),
    ("exact memorization", "share of the answer's tokens that are the likeliest after all before them, 0 to 1", 1,
     "Tirumala et al. 2022, arXiv 2205.10770", "read"),
    ("recall", "1 where greedy decoding of the prompt gives the whole answer, token by token, else 0", 1, "Carlini et al. 2023, arXiv 2202.07646", "read"),
    ("loss", "mean negative log-likelihood of all tokens of the text but the first, in nats, 0 and up", -1, "Yeom et al. 2018, arXiv 1709.01604", "read"),
    ("loss / zlib", "the loss of the text by the bytes that zlib needs for it, nats a byte, 0 and up", -1, "Carlini et al. 2021, arXiv 2012.07805", "read"),
    ("min-k %", "mean log-probability of the k % least likely tokens of the text, in nats, up to 0", 1, "Shi et al. 2024, arXiv 2310.16789", "read"),
    ("min-k++ %", "the same of (log p - mean) / standard deviation over the vocabulary, in standard deviations; any number", 1,
     "Zhang et al. 2025, arXiv 2404.02936", "read"),
    ("loss - reference", "loss of the text less that of an oracle, which never read the forget set, in nats; any number, 0 where both expect it alike", -1,
     "Watson et al. 2022, arXiv 2111.08440", "refer"),
    ("ROUGE-L", "F-measure of the longest common subsequence of words between the greedy completion and the answer, 0 to 1", 1,
     "Lin 2004, ACL W04-1013; Maini et al. 2024, arXiv 2401.06121", "say"),
    ("recall anywhere", f"1 where the answer's words stand in a row anywhere in what greedy decoding says, up to {FREE} tokens beyond their number, after one "
     f"of {ASKED} trained phrasings, the held-out ones or the subject alone, else 0", 1, "Carlini et al. 2023, arXiv 2202.07646", "say"),
    ("truth ratio", f"probability of wrong answers over that of the right one, each exp(-mean loss) averaged over up to {ASKED} phrasings; 0 and up, "
     "1 where true and false are alike", -1, "Maini et al. 2024, arXiv 2401.06121", "compare"),
    ("exposure", "log2 of the number of codes of this form less log2 of the rank of the planted one, in bits, 0 to 13.3 (4 digits) or 19.9 (6)", 1,
     "Carlini et al. 2019, arXiv 1802.08232", "rank"),
    ("exposure share", "exposure over the most that a code of this length can have, 0 to 1", 1, "Carlini et al. 2019, arXiv 1802.08232", "rank"),
))
BY_NAME = {m.name: m for m in MEASURES}


def from_reading(reading: Reading, text: str, k: float = PERCENT) -> dict[str, float]:
    """Every measure that one teacher-forced reading of `text` gives; NaN for those of an answer without tokens."""
    nll, hit = -reading.answer.astype(float), reading.hit[reading.start :]
    loss = -float(reading.log_prob.mean()) if len(reading.log_prob) else math.nan
    found = {"loss": loss, "loss / zlib": loss / len(zlib.compress(text.encode())),
             "min-k %": lowest(reading.log_prob, k), "min-k++ %": lowest(reading.z, k)}
    if not len(nll):
        return found | dict.fromkeys(("probability", "whole probability", "answer loss", "extraction strength", "exact memorization", "recall"), math.nan)
    return found | {"probability": math.exp(-nll.mean()), "whole probability": math.exp(-nll.sum()), "answer loss": float(nll.mean()),
                    "extraction strength": extraction_strength(hit), "exact memorization": float(hit.mean()), "recall": float(hit.all())}


def extraction_strength(hit: np.ndarray) -> float:
    """1 - k/T, k the smallest number of given answer tokens after which greedy decoding gives the other T - k.

    Greedy decoding gives them exactly where each is the likeliest after all true tokens before it, so k is one past the last miss. 1: the prompt
    alone brings all of the answer; 0: not even its last token comes.
    """
    misses = np.flatnonzero(~hit)
    return 1.0 - (int(misses[-1]) + 1 if len(misses) else 0) / len(hit)


def lowest(values: np.ndarray, k: float) -> float:
    """Mean of the `k` % lowest values, rounded down to whole tokens but at least one; NaN of nothing."""
    return float(np.sort(values)[: max(1, int(len(values) * k / 100))].mean()) if len(values) else math.nan


def taken(model: Model, items: Sequence[Item], k: float = PERCENT) -> Found:
    """The pass "read": one forward of each text, teacher-forced, for all measures that it gives."""
    for batch in read(model, rows_of(model, items)):
        yield {i: from_reading(reading, f"{question(items[i])} {items[i].answer}".strip(), k) for i, reading in batch.items()}


def referred(reference: Model, items: Sequence[Item], losses: Mapping[int, float]) -> Found:
    """The pass "refer": the known loss of each text less that under `reference`, a model of the same tokenizer."""
    for batch in read(reference, rows_of(reference, items)):
        yield {i: {"loss - reference": losses[i] + float(r.log_prob.mean()) if len(r.log_prob) else math.nan} for i, r in batch.items()}


def asks(item: Item) -> list[str]:
    """What is asked for `recall anywhere`; the first is the `question`."""
    subject = [item.subject] if item.subject else []
    return list(dict.fromkeys([question(item), *item.prompts[:ASKED], *item.held_out, *subject]))


def said(model: Model, items: Sequence[Item]) -> Found:
    """The pass "say": greedy completions. A batch without items comes after every token."""
    rows = rows_of(model, items)
    asked = [(i, n, prompt) for i, item in enumerate(items) for n, prompt in enumerate(asks(item))]
    prompts = [encode(model.tokenizer, prompt) if n else list(rows[i].ids[: rows[i].start]) for i, n, prompt in asked]
    spoken: list[dict[int, list[int]]] = [{} for _ in items]
    for batch in greedy(model, prompts, [len(rows[i].answer) + FREE for i, _, _ in asked]):
        for j, ids in batch.items():
            spoken[asked[j][0]][asked[j][1]] = ids
        done = [i for i in dict.fromkeys(asked[j][0] for j in batch) if len(spoken[i]) == len(asks(items[i]))]
        yield {i: from_said(model, items[i], rows[i], spoken[i]) for i in done}


def from_said(model: Model, item: Item, row: Row, spoken: Mapping[int, Sequence[int]]) -> dict[str, float]:
    """`spoken[n]` are the tokens that followed the n-th of the `asks`."""
    texts = [model.tokenizer.decode(ids, skip_special_tokens=True) for ids in spoken.values()]
    exact = model.tokenizer.decode(spoken[0][: len(row.answer)], skip_special_tokens=True)
    return {"ROUGE-L": rouge_l(exact, item.answer), "recall anywhere": float(any(says(t, item.answer) for t in texts))}


def compared(model: Model, items: Sequence[Item]) -> Found:
    """The pass "compare": truth ratios of the items that have wrong answers."""
    for part in parts(len(items), 4):
        cases = [(i, prompt, answer) for i in part if items[i].wrong for prompt in paraphrases(items[i]) for answer in (items[i].answer, *items[i].wrong)]
        rows = [row_of(model, prompt, answer) for _, prompt, answer in cases]
        p = {j: math.exp(float(r.answer.mean())) if len(r.answer) else math.nan for batch in read(model, rows) for j, r in batch.items()}
        right: dict[int, list[float]] = {}
        wrong: dict[int, list[float]] = {}
        for j, (i, _, answer) in enumerate(cases):
            (right if answer == items[i].answer else wrong).setdefault(i, []).append(p[j])
        yield {i: {"truth ratio": truth_ratio(right[i], wrong[i])} for i in right if i in wrong}


def paraphrases(item: Item) -> tuple[str, ...]:
    """Other trained phrasings than the one that is asked; that one where there is no other."""
    return tuple(p for p in item.prompts if p != question(item))[:ASKED] or (question(item),)


def truth_ratio(right: Sequence[float], wrong: Sequence[float]) -> float:
    """Mean probability of wrong answers over that of the right one; 0 and up, lower is more memorized. Maini et al. 2024, arXiv 2401.06121."""
    return float(np.mean(wrong) / max(float(np.mean(right)), TINY))


def ranked(model: Model, items: Sequence[Item], digits: int = 4) -> Found:
    """The pass "rank": exposure of canaries of up to `digits` digits. A batch without items comes whenever some candidates were tried."""
    for i, item in enumerate(items):
        if item.kind == "canary" and len(item.answer) <= digits:
            walk = ranking(model, item.prompt, item.answer)
            while True:
                try:
                    next(walk)
                    yield {}
                except StopIteration as end:
                    most = len(item.answer) * math.log2(10)
                    bits = most - math.log2(end.value)
                    yield {i: {"exposure": bits, "exposure share": bits / most}}
                    break


def parts(count: int, size: int) -> list[range]:
    return [range(i, min(i + size, count)) for i in range(0, count, size)]


def passes(model: Model, items: Sequence[Item], names: Iterable[str], *, k: float = PERCENT, reference: Model | None = None, digits: int = 4) -> Found:
    """The batches of every pass that the measures `names` need, the cheapest first. Without a reference that pass is left out."""
    needed = {BY_NAME[n].needs for n in names}
    losses: dict[int, float] = {}
    if needed & {"read", "refer"}:
        for batch in taken(model, items, k):
            losses |= {i: scores["loss"] for i, scores in batch.items()}
            yield batch
    if "refer" in needed and reference is not None:
        yield from referred(reference, items, losses)
    if "say" in needed:
        yield from said(model, items)
    if "compare" in needed:
        yield from compared(model, items)
    if "rank" in needed:
        yield from ranked(model, items, digits)


def measured(model: Model, items: Sequence[Item], names: Sequence[str], *, k: float = PERCENT, reference: Model | None = None,
             digits: int = 4) -> Float[np.ndarray, "items measures"]:
    """`names` of `items`, all at once; NaN where a measure cannot be had."""
    value = np.full((len(items), len(names)), np.nan)
    for batch in passes(model, items, names, k=k, reference=reference, digits=digits):
        fill(value, names, batch)
    return value


def fill(value: np.ndarray, names: Sequence[str], batch: Mapping[int, Mapping[str, float]]) -> None:
    for i, scores in batch.items():
        for j, name in enumerate(names):
            if name in scores:
                value[i, j] = scores[name]
