"""What someone asks of a model of pictures, made ready: prompts, seeds, guidance, steps, and what is known of the training pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lab.diffusion._training import Row, Truth, truth
from models.errors import BadInput
from models.pipeline import Pipeline, nothing, pictures, words

if TYPE_CHECKING:
    from lab.data import Data
    from models.model import Model

SAMPLE = "sample"
MOST = 64  # prompts of one run that are typed
TURNS = (("verbatim", -1), ("template", -1), ("verbatim", 0), ("regular", 0), ("held", 0))  # of a sample: which kind, from which end of the copy counts


@dataclass(frozen=True, eq=False)
class Asked:
    """`embedding` has one row of tokens a prompt, `blank` one for all; both are on the model's device."""

    net: Pipeline
    prompts: tuple[str, ...]
    embedding: Tensor
    blank: Tensor
    seeds: tuple[int, ...]
    guidance: float
    steps: int
    truth: Truth
    facts: tuple[str, ...]


def asked(model: Model, data: Data, prompts: str, seed: int, seeds: int, guidance: float, steps: int, setting: str = "prompts",
          most: int = MOST) -> Asked:
    """`guidance` and `steps` of 0 are those that the model was grown for. Raises `BadInput` naming the setting that is at fault."""
    net, known = pictures(model), truth(model, data)
    chosen = chosen_prompts(prompts, known, setting, most)
    with torch.no_grad():
        embedding = net.embed(words(model, chosen, setting))
        blank = nothing(model)
    guidance, steps = guidance or known.guidance, steps or known.steps
    net.schedule(steps)  # more steps than the model knows are told before any work
    lines = [f"guidance {guidance:g}, {steps} steps"]
    if strange := unread(model, chosen):
        lines.append(f"{model.name} has never read {', '.join(strange)}: to it all such words are one")
    return Asked(net, chosen, embedding, blank, tuple(range(seed, seed + seeds)), guidance, steps, known, tuple(lines))


def one_prompt(model: Model, data: Data, prompt: str, seed: int, seeds: int, guidance: float, steps: int) -> Asked:
    """The same of one prompt; `sample` is the first of the sample. Raises `BadInput` on several."""
    found = chosen_prompts(prompt, truth(model, data), "prompt")
    if len(found) > 1 and prompt.strip() != SAMPLE:
        raise BadInput("there are several prompts", "this is of one", "Leave one line", setting="prompt")
    return asked(model, data, found[0], seed, seeds, guidance, steps, "prompt")


def chosen_prompts(text: str, known: Truth, setting: str = "prompts", most: int = MOST) -> tuple[str, ...]:
    """One prompt a line; `sample` takes a caption of every kind of training picture."""
    lines = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not lines:
        raise BadInput("there is no prompt", cure="Write what the picture should show, one prompt a line", setting=setting)
    if len(lines) > most:
        raise BadInput(f"there are {len(lines)} prompts", f"a run takes {most}", "Leave some out", setting=setting)
    if lines != (SAMPLE,):
        return lines
    found = dict.fromkeys(row.captions[0] for row in sampled(known))
    if not found:
        raise BadInput("there is no sample to take", "only of the lab's own organisms is it known what they were trained on", "Write a prompt", setting=setting)
    return tuple(found)


def sampled(known: Truth) -> list[Row]:
    """A row of every kind: the most and the least copied, one that repeats under many captions, one that was only seen augmented, one never trained."""
    found = []
    for kind, end in TURNS:
        rows = sorted((r for r in known.of(kind) if r.captions), key=lambda r: r.copies)
        if rows:
            found.append(rows[end])
    return found


def unread(model: Model, prompts: Sequence[str]) -> tuple[str, ...]:
    """The words that the tokenizer does not know, where it knows whole words only."""
    unknown = model.tokenizer.unk_token_id
    if unknown is None or unknown == model.tokenizer.eos_token_id:
        return ()
    every = dict.fromkeys(word for prompt in prompts for word in prompt.split())
    return tuple(word for word in every if unknown in model.tokenizer(word, add_special_tokens=False).input_ids)
