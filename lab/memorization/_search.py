"""Continuations drawn by seed, and the texts that are found in them."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lab.data import Data
from lab.events import Event, Progress, Table
from lab.items import Item, choose
from lab.memorization._decode import continued
from lab.memorization._rows import ROWS, encode, positions
from lab.memorization._runs import Texts
from models.errors import BadInput
from models.model import Model

if TYPE_CHECKING:
    from lab.memorization.search import PrefixSearch

Line = tuple[str, str, float, float, float, float]
COLUMNS = ("sample", "found", "longest run", "share covered", "loss", "loss / zlib")


def search(settings: PrefixSearch, model: Model, data: Data) -> Iterator[Event]:
    """Yields the table of all samples so far after every batch, those with the longest runs first."""
    yield Progress(0, settings.samples, "reading the texts")
    items = looked_for(settings, data)
    prefix = begun(settings, model)
    texts = Texts([[t for t in encode(model.tokenizer, i.text) if t not in model.tokenizer.all_special_ids] for i in items])
    sampler = Sampler(settings.temperature, settings.top_k, torch.Generator().manual_seed(settings.seed))
    lines: list[Line] = []
    while len(lines) < settings.samples:
        count = min(ROWS, settings.samples - len(lines))
        sampler.log_probs.clear()
        grower, new = continued(model, [prefix] * count, sampler), torch.empty(0)
        for i in range(settings.length):
            new = next(grower)
            yield Progress(len(lines), settings.samples, f"token {i + 1} of {settings.length}")
        losses = -torch.stack(sampler.log_probs).mean(0)
        for row, loss in zip(new.tolist(), losses.tolist(), strict=True):
            lines.append(line(model, items, texts, row, loss, settings.least))
        yield table(settings, lines, len(items))


class Sampler:
    """Draws the next tokens of a batch, and keeps what the model gave to each at temperature 1, in nats."""

    def __init__(self, temperature: float, top_k: int, generator: torch.Generator) -> None:
        self.temperature, self.top_k, self.generator = temperature, top_k, generator
        self.log_probs: list[Tensor] = []

    def __call__(self, logits: Tensor) -> Tensor:
        """(rows,) tokens from (rows, vocabulary) logits. Drawn on the CPU, so that a seed says the same on every device."""
        scaled = logits.cpu() / self.temperature
        if self.top_k:
            best = scaled.topk(min(self.top_k, scaled.shape[1]))
            drawn = torch.multinomial(best.values.softmax(-1), 1, generator=self.generator)
            tokens = best.indices.gather(1, drawn)
        else:
            tokens = torch.multinomial(scaled.softmax(-1), 1, generator=self.generator)
        self.log_probs.append(logits.cpu().log_softmax(-1).gather(1, tokens)[:, 0])
        return tokens[:, 0].to(logits.device)


def looked_for(settings: PrefixSearch, data: Data) -> list[Item]:
    if data.manifest is None and settings.texts.strip() in ("", "passage"):
        raise BadInput("there are no texts to look for", "the model is no organism, so it has no planted passages", "Paste rows of text", setting="texts")
    return choose(data, settings.texts, setting="texts")


def begun(settings: PrefixSearch, model: Model) -> list[int]:
    """The tokens that every sample begins with. Raises `BadInput` where there is no start token, or no room."""
    tokenizer = model.tokenizer
    ids = encode(tokenizer, settings.prefix.strip())
    if not ids:
        start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        if start is None:
            raise BadInput("the prefix is empty", f"the tokenizer of {model.name} has no start token", "Write a word to begin with", setting="prefix")
        ids = [start]
    if len(ids) + settings.length > positions(model):
        raise BadInput(f"prefix and continuation are {len(ids) + settings.length} tokens long", f"{model.name} reads up to {positions(model)}",
                       "Shorten one of them", setting="length")
    return ids


def line(model: Model, items: list[Item], texts: Texts, row: list[int], loss: float, least: int) -> Line:
    said = model.tokenizer.decode(row, skip_special_tokens=True).strip()
    i, longest, share = texts.find(row, least)
    return said, items[i].name if longest >= least else "", float(longest), share, loss, loss / len(zlib.compress(said.encode()))


def table(settings: PrefixSearch, lines: list[Line], count: int) -> Table:
    about = ("what was said after the prefix",
             f"the item that it shares the longest run with; empty where no run has {settings.least} tokens",
             "tokens in a row that the sample shares with that item, 0 and up; higher is more recited",
             f"share of the item's tokens in shared runs of at least {settings.least}, 0 to 1; higher is more recited",
             "mean negative log-likelihood of the sample in nats, 0 and up; lower is surer",
             "that loss by the bytes that zlib needs for the sample; lower is surer than its wording explains")
    ordered = sorted(lines, key=lambda x: (-x[2], -x[3], x[4]))
    found = {x[1]: max(y[3] for y in lines if y[1] == x[1]) for x in lines if x[1]}
    whole = sum(1 for share in found.values() if math.isclose(share, 1.0))
    facts = (f"{sum(1 for x in lines if x[1])} of {len(lines)} samples recite at least {settings.least} tokens",
             f"{len(found)} of {count} texts were found, {whole} of them whole")
    return Table(f"{len(lines)} samples after {settings.prefix.strip() or 'the start token'!r}", COLUMNS, about, tuple(ordered), facts)
