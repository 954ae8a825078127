"""All that the scores need to know of one model, set by set: each pass over it fills in some of the measures of every item."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lab.data import Data
from lab.items import FACT_KINDS, Item, choose, planted
from lab.memorization._decode import greedy
from lab.memorization._measures import compared, from_reading, lowest, ranked
from lab.memorization._read import read as readings
from lab.memorization._rows import question, row_of, rows_of
from lab.memorization._words import rouge_l
from lab.ruler import _answers, _oracles
from lab.ruler._depth import KNOWN, drawn, drops, lacks
from models.model import Model, blocks
from models.organisms.corpus import held_out
from models.organisms.recipe import Recipe

K_PRIVLEAK = 40.0  # per cent of the tokens
DOCUMENTS = 24  # of general text
CANARIES = 12
Sets = dict[str, list[Item]]  # "forget", "retain", "holdout", "world": what there is


@dataclass(eq=False)
class Profile:
    """`value[set, measure]` holds one number an item of the set, NaN where it has none; `log_probs[set]` the (answer tokens, vocabulary) of each."""

    model: Model
    full: Model | None = None  # before any edit: what it is patched into, where that is asked for
    value: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    log_probs: dict[str, list[Tensor]] = field(default_factory=dict)
    drops: np.ndarray | None = None  # (forget items, layers): see lab.ruler._depth

    def get(self, part: str, measure: str) -> np.ndarray:
        """The numbers that there are, without NaN; empty where none was taken."""
        found = self.value.get((part, measure), np.empty(0))
        return found[~np.isnan(found)]


def sets(data: Data, forget: str, retain: str, most: int, seed: int) -> Sets:
    """Up to `most` items of each set, drawn by seed, in the order of the organism. Raises `BadInput` where a set is empty or names nothing."""
    chosen = {"forget": choose(data, forget, setting="forget"), "retain": choose(data, retain, setting="retain") if retain.strip() else []}
    gone = {i.name for i in chosen["forget"]} if data.manifest else set()
    chosen["retain"] = [i for i in chosen["retain"] if i.name not in gone]
    if data.manifest:
        chosen["holdout"] = _oracles.holdout(data, chosen["forget"])
        chosen["world"] = [i for i in planted(data.manifest) if i.kind in FACT_KINDS and i.split == "world" and i.name not in gone]
    chance = torch.Generator().manual_seed(seed)
    picked = {part: sorted(torch.randperm(len(items), generator=chance)[:most].tolist()) for part, items in chosen.items()}
    return {part: [chosen[part][i] for i in index] for part, index in picked.items() if index}


Pass = Callable[[Profile, Sets, Data], Iterator[None]]


def reading(profile: Profile, items: Sets, data: Data) -> Iterator[None]:
    """One teacher-forced reading of every text: probability, recall, extraction strength, exact memorization, and the losses that betray members."""
    for part, mine in items.items():
        for batch in readings(profile.model, rows_of(profile.model, mine, setting=part if part in ("forget", "retain") else "forget")):
            for i, r in batch.items():
                found = from_reading(r, f"{question(mine[i])} {mine[i].answer}".strip())
                put(profile, part, len(mine), i, found | {"min-k 40 %": lowest(r.log_prob, K_PRIVLEAK)})
            yield


def other_words(profile: Profile, items: Sets, data: Data) -> Iterator[None]:
    """Whether greedy decoding gives the whole answer after a phrasing that was never trained."""
    for part, mine in items.items():
        asked = [(i, prompt) for i, item in enumerate(mine) for prompt in item.held_out]
        right: dict[int, list[float]] = {}
        for batch in readings(profile.model, [row_of(profile.model, prompt, mine[i].answer) for i, prompt in asked]):
            for j, r in batch.items():
                right.setdefault(asked[j][0], []).append(float(r.hit[r.start :].all()))
            yield
        for i, hits in right.items():
            put(profile, part, len(mine), i, {"recall in other words": float(np.mean(hits))})


def speaking(profile: Profile, items: Sets, data: Data) -> Iterator[None]:
    """ROUGE-L of what greedy decoding says, as many tokens as the answer has."""
    tokenizer: Any = profile.model.tokenizer
    for part, mine in items.items():
        rows = rows_of(profile.model, mine)
        for batch in greedy(profile.model, [r.ids[: r.start] for r in rows], [len(r.answer) for r in rows]):
            for i, ids in batch.items():
                put(profile, part, len(mine), i, {"ROUGE-L": rouge_l(tokenizer.decode(ids, skip_special_tokens=True), mine[i].answer)})
            yield


def comparing(profile: Profile, items: Sets, data: Data) -> Iterator[None]:
    """Truth ratios of what has wrong answers."""
    for part, mine in items.items():
        if part != "holdout":
            for batch in compared(profile.model, [replace(i, prompts=i.prompts[:2]) for i in mine]):  # in one other phrasing
                for i, found in batch.items():
                    put(profile, part, len(mine), i, found)
                yield


def general(profile: Profile, items: Sets, data: Data) -> Iterator[None]:
    """Loss on general text that no organism read."""
    recipe = (data.manifest or {}).get("recipe")
    if recipe:
        texts = [replace(NOBODY, prompt="", answer=text) for text in held_out(Recipe(**recipe))[:DOCUMENTS]]
        rows = rows_of(profile.model, texts)
        for start in range(0, len(rows), 8):
            for batch in readings(profile.model, rows[start : start + 8]):
                for i, r in batch.items():
                    put(profile, "general", len(texts), start + i, {"loss": -float(r.log_prob.mean())})
            yield


def ranking(profile: Profile, items: Sets, data: Data) -> Iterator[None]:
    """Exposure of the canaries of four digits that are to be forgotten."""
    canaries = [i for i in items["forget"] if i.kind == "canary" and len(i.answer) <= 4]
    canaries = canaries[:: -(-len(canaries) // CANARIES) or 1]  # of every number of copies
    for batch in ranked(profile.model, canaries):
        for i, found in batch.items():
            put(profile, "forget", max(len(canaries), 1), i, {"exposure": found["exposure"]})
        yield


def distributions(profile: Profile, items: Sets, data: Data) -> Iterator[None]:
    """What the model holds of every token of every answer: for the distance to the oracles, so only where there are any."""
    for part, mine in items.items():
        rows = [r for i in mine if (r := _answers.coded(profile.model, question(i), i.answer))]
        profile.log_probs[part] = yield from _answers.read(profile.model.net, rows)
        value = np.array([margin(p, r) for p, r in zip(profile.log_probs[part], rows, strict=True)])
        profile.value[part, "margin"] = value


def patching(profile: Profile, items: Sets, data: Data) -> Iterator[None]:
    """What the full model loses with this model's states; nothing where it is the full model itself."""
    rows = [r for i in items["forget"] if (r := _answers.coded(profile.model, question(i), i.answer))]
    if profile.model is profile.full:
        profile.drops = np.zeros((len(rows), len(blocks(profile.full.net))))
    elif profile.full is not None and profile.model.origin is profile.full:
        profile.drops = yield from drops(profile.model, profile.full, rows)
    elif profile.full is not None:
        known = drawn(profile.full, _oracles.known_to_all(data, items["forget"], (profile.model.name,)), KNOWN, 0)
        profile.drops, _ = yield from lacks(profile.model, profile.full, rows, known)


def margin(log_probs: Tensor, row: Any) -> float:
    """Mean over the answer's tokens of its logit less the logsumexp of all others: log p - log(1 - p), in nats."""
    mine = log_probs.gather(1, torch.tensor(row.answer)[:, None])[:, 0].double()
    return float((mine - torch.log(-torch.expm1(mine.clamp(max=-1e-7)))).mean())


def put(profile: Profile, part: str, count: int, i: int, found: dict[str, float]) -> None:
    for measure, x in found.items():
        profile.value.setdefault((part, measure), np.full(count, np.nan))[i] = x


NOBODY = Item("general", "text", "general", 0, "", "")


def passes(items: Sets, oracles: Sequence[str]) -> list[tuple[str, Pass]]:
    """(what is done, the pass), the cheapest first."""
    found: list[tuple[str, Pass]] = [("reading", reading), ("general text", general), ("other phrasings", other_words), ("answering", speaking)]
    found += [("the distance to the oracles", distributions)] if oracles else []
    found += [("wrong answers", comparing), ("exposure", ranking)]
    return [*found, ("patching", patching)] if oracles else found
