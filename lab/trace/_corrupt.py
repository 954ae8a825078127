"""What is done to the subject: noise, another subject in its place, the mean of known subjects, or nothing at all where it stood."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lab.data import Data, data_for
from lab.trace._prompt import Prompt, encode, read_prompt
from models.errors import BadInput
from models.model import Model, embedding

KINDS = ("gaussian", "replacement", "mean", "zero")


@dataclass
class Corruption:
    """`ids` (runs, tokens) go in; then `change` (runs, subject tokens, width) is added to the subject's embeddings, or stands in for them."""

    ids: Int[Tensor, "runs tokens"]
    change: Float[Tensor, "runs subject width"] | None = None
    adds: bool = True
    std: float = 0.0
    replaced: tuple[str, ...] = ()


class Corrupter:
    """The hook on the embedding of a private net. `rows` says which corrupted run each row of a batch is; -1 is the clean one."""

    def __init__(self, net: nn.Module, subject: tuple[int, int]) -> None:
        self.subject, self.corruption, self.rows = subject, Corruption(torch.zeros(0, 0, dtype=torch.long)), torch.zeros(0, dtype=torch.long)
        self.hook = embedding(net).register_forward_hook(self._change)

    def ids(self, clean: Int[Tensor, " tokens"]) -> Int[Tensor, "rows tokens"]:
        """The token ids of the rows."""
        return torch.where(self.rows[:, None] < 0, clean, self.corruption.ids[self.rows.clamp(min=0)])

    def _change(self, _: nn.Module, args: tuple, output: Tensor) -> Tensor:
        change, (begin, end) = self.corruption.change, self.subject
        hit = self.rows >= 0
        if change is None or not bool(hit.any()):
            return output
        output, mine = output.clone(), change[self.rows[hit]].to(output)
        output[hit, begin:end] = output[hit, begin:end] + mine if self.corruption.adds else mine
        return output


def corrupt(model: Model, prompt: Prompt, subjects: Sequence[str], kind: str, *, samples: int, noise: float, seed: int, replacement: str = "") -> Corruption:
    """The corrupted runs of `prompt`: `samples` of them with noise, as many as there are subjects to put in its place, else one.

    Raises `BadInput` where a replacement is no text of as many tokens as the subject, or none is known.
    """
    device = model.device
    ids = torch.tensor([*prompt.ids, *prompt.answer_ids], device=device)
    begin, end = prompt.subject
    if kind == "replacement":
        names = chosen(model, prompt, replacement) if replacement.strip() else drawn(model, prompt, subjects, samples, seed)
        rows = torch.tensor([[*swapped(model, prompt, name), *prompt.answer_ids] for name in names], device=device)
        return Corruption(rows, replaced=tuple(names))
    width = embedding(model.net).weight.shape[1]
    if kind == "gaussian":
        std, wide = noise * noise_std(model, tuple(subjects)), torch.promote_types(model.dtype, torch.float32)
        return Corruption(ids.expand(samples, -1), std * draw_noise(samples, end - begin, width, seed).to(device, wide), std=std)
    value = mean_embedding(model, subjects) if kind == "mean" else torch.zeros(width, device=device)
    return Corruption(ids.expand(1, -1), value.float().expand(1, end - begin, width), adds=False)


def swapped(model: Model, prompt: Prompt, name: str) -> tuple[int, ...]:
    """Token ids of the prompt with `name` in the place of its subject; empty where that changes how many tokens it has, or the others."""
    at = prompt.text.find(prompt.name)
    ids, _ = encode(model.tokenizer, prompt.text[:at] + name + prompt.text[at + len(prompt.name):])
    begin, end = prompt.subject
    same = len(ids) == len(prompt.ids) and ids[:begin] == prompt.ids[:begin] and ids[end:] == prompt.ids[end:]
    return ids if same and ids != prompt.ids else ()


def fitting(model: Model, prompt: Prompt, subjects: Sequence[str]) -> list[str]:
    """The known subjects that may stand in the place of the prompt's, token for token."""
    return [name for name in subjects if name != prompt.name and swapped(model, prompt, name)]


def suggestions(model: Model, text: str, subject: str, count: int = 12) -> list[str]:
    """Known subjects that could stand in the place of `subject` in `text`, those of its own kind first. Raises `BadInput` as `read_prompt`."""
    data, prompt = data_for(model), read_prompt(model, text, subject, "")
    return of_a_kind(data, prompt.name, fitting(model, prompt, data.subjects))[:count]


def of_a_kind(data: Data, name: str, found: Sequence[str]) -> list[str]:
    """Those of `found` that are, as far as is known, of the kind that `name` is, before the others."""
    kinds = {f["subject"]: f["kind"] for f in data.manifest["facts"]} if data.manifest else {}
    return sorted(found, key=lambda other: kinds.get(other) != kinds.get(name))


def chosen(model: Model, prompt: Prompt, text: str) -> list[str]:
    names = [name.strip() for name in text.split(";") if name.strip()]
    for name in names:
        if not swapped(model, prompt, name):
            begin, end = prompt.subject
            raise BadInput(f"{name!r} cannot stand in the place of {prompt.name!r}", f"it is not another text of {end - begin} tokens",
                           "Leave the replacement empty to take known subjects of as many tokens", setting="replacement")
    return names


def drawn(model: Model, prompt: Prompt, subjects: Sequence[str], count: int, seed: int) -> list[str]:
    """Up to `count` fitting subjects, drawn by seed, those of the same kind first."""
    found = fitting(model, prompt, subjects)
    if not found:
        raise BadInput(f"no known subject has as many tokens as {prompt.name!r}", "a replacement must not move the tokens after it",
                       "Write one as the replacement, or corrupt with noise", setting="replacement")
    random.Random(seed).shuffle(found)
    return of_a_kind(data_for(model), prompt.name, found)[:count]


def mean_embedding(model: Model, subjects: Sequence[str]) -> Float[Tensor, " width"]:
    """Mean over the embeddings of the subjects' tokens, each occurrence counted once a subject."""
    return subject_rows(model, subjects).mean(0)


def noise_std(model: Model, subjects: Sequence[str]) -> float:
    """Standard deviation over all entries of the embeddings of the subjects' tokens, each token occurrence counted once a subject."""
    return subject_rows(model, subjects).std().item()


def subject_rows(model: Model, subjects: Sequence[str]) -> Float[Tensor, "tokens width"]:
    coded = model.tokenizer(list(subjects), return_offsets_mapping=True)  # all at once is much faster than one by one
    ids = [i for one in zip(coded["input_ids"], coded["offset_mapping"], strict=True) for i, (a, b) in zip(*one, strict=True) if b > a]
    table = embedding(model.net)
    with torch.no_grad():
        return table(torch.tensor(ids, device=model.device)).float()


def draw_noise(samples: int, tokens: int, width: int, seed: int) -> Float[Tensor, "samples tokens width"]:
    """Standard normal, float32, made on the CPU whatever the device, so that anyone can repeat it."""
    return torch.randn(samples, tokens, width, generator=torch.Generator().manual_seed(seed))
