"""The exact trace: one batch a token, whose rows restore that token's clean state at every layer, under every noise sample."""

from __future__ import annotations

import inspect
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lab.data import Data
from lab.events import Event, Progress, TraceMap
from lab.trace._ask import word
from lab.trace._prompt import Prompt, encode, read_prompt
from models.errors import BadInput
from models.model import Model, blocks, embedding

if TYPE_CHECKING:
    from lab.trace.causal import CausalTrace

WORK = {"cpu": 8e9, "other": 2e12}  # multiply-adds a forward: keeps a step near 0.2 s, so that Stop is felt at once


@dataclass
class Rig:
    """A private copy of a net with hooks that add noise to the subject's embeddings and put clean states back.

    `noise` is (rows, subject tokens, width) or None; `restore[row]` is the layer at which `row` gets `clean[layer][token]` back, -1 for never.
    """

    net: nn.Module
    ids: Int[Tensor, " tokens"]
    subject: tuple[int, int]
    answer: Int[Tensor, " answer"]
    noise: Tensor | None = None
    restore: Tensor | None = None
    token: int = 0
    keep: list[Tensor] | None = None  # block outputs of the clean run, (1, tokens, width) each

    def __post_init__(self) -> None:
        embedding(self.net).register_forward_hook(self._add_noise)
        for layer, block in enumerate(blocks(self.net)):
            block.register_forward_hook(lambda _, args, output, layer=layer: self._at_block(layer, output))
        self.takes_keep = "logits_to_keep" in inspect.signature(self.net.forward).parameters

    def _add_noise(self, _: nn.Module, args: Any, output: Tensor) -> Tensor:
        if self.noise is None:
            return output
        begin, end = self.subject
        output = output.clone()
        output[:, begin:end] += self.noise.to(output)
        return output

    def _at_block(self, layer: int, output: Any) -> Any:
        hidden = output[0] if isinstance(output, tuple) else output
        if self.keep is not None and self.restore is None:
            self.keep.append(hidden[:1].clone())
        if self.restore is None or not bool((rows := self.restore == layer).any()):
            return output
        hidden = hidden.clone()
        hidden[rows, self.token] = self.keep[layer][0, self.token]  # type: ignore[index]
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    @torch.no_grad()
    def log_probs(self, rows: int) -> Float[Tensor, "rows steps vocabulary"]:
        """Log-probabilities, float32, at one step for each answer token and one more.

        They are of what follows the prompt, then of what follows each answer token given those before it.
        """
        ids = torch.cat([self.ids, self.answer]).expand(rows, -1)
        count = len(self.answer) + 1
        extra = {"logits_to_keep": count} if self.takes_keep else {}
        logits = self.net(input_ids=ids, use_cache=False, **extra).logits[:, -count:]
        return logits.float().log_softmax(-1)

    def probability(self, rows: int) -> Float[Tensor, " rows"]:
        """Probability of the whole answer in each row."""
        log_probs = self.log_probs(rows)[:, :-1]
        return log_probs.gather(2, self.answer.expand(rows, -1).unsqueeze(2)).sum((1, 2)).exp()


def noise_std(model: Model, subjects: tuple[str, ...]) -> float:
    """Standard deviation over all entries of the embeddings of the subjects' tokens, each token occurrence counted once a subject."""
    ids = [i for name in subjects for i, (a, b) in zip(*encode(model.tokenizer, name), strict=True) if b > a]
    table = embedding(model.net)
    with torch.no_grad():
        rows = table(torch.tensor([ids], device=table.weight.device))
    return rows.float().std().item()


def draw_noise(samples: int, tokens: int, width: int, seed: int) -> Float[Tensor, "samples tokens width"]:
    """Standard normal, float32, made on the CPU whatever the device, so that anyone can repeat it."""
    return torch.randn(samples, tokens, width, generator=torch.Generator().manual_seed(seed))


def trace(settings: CausalTrace, model: Model, data: Data) -> Iterator[Event]:
    """Yields the map after the clean and corrupted runs, then after every token, from left to right."""
    prompt = read_prompt(model, settings.prompt, settings.subject, settings.answer)
    device = embedding(model.net).weight.device
    rig = Rig(model.skeleton(), torch.tensor(prompt.ids, device=device), prompt.subject,
              torch.tensor(prompt.answer_ids, dtype=torch.long, device=device), keep=[])
    yield Progress(0, len(prompt.tokens), "clean run")
    prompt, clean, top = run_clean(rig, model, prompt)
    std = settings.noise * noise_std(model, data.subjects)
    width = rig.keep[0].shape[-1]  # type: ignore[index]
    begin, end = prompt.subject
    embedding_width = embedding(model.net).weight.shape[1]  # differs from `width` where embeddings are projected up
    noise = std * draw_noise(settings.samples, end - begin, embedding_width or width, settings.seed).to(device)
    rig.restore = torch.full((1,), -1, device=device)
    parts = []
    for part in noise.split(chunk(model, rig)):
        parts.append(_corrupted(rig, part))
        yield Progress(0, len(prompt.tokens), "corrupted runs")
    corrupted = torch.cat(parts).double().cpu().numpy()
    shape = (len(prompt.tokens), len(rig.keep or ()))
    now = TraceMap(prompt.text, prompt.tokens, prompt.subject, prompt.answer, prompt.answer_tokens, tuple(range(shape[1])),
                   np.full(shape, np.nan), np.full(shape, np.nan), clean, float(corrupted.mean()), standard_error(corrupted),
                   settings.samples, std, top)
    yield now
    for token in range(shape[0]):
        effect, error = now.effect.copy(), now.effect_se.copy()
        if token < begin:
            effect[token], error[token] = 0.0, 0.0  # nothing before the subject sees the noise: the state is the clean one already
        else:
            rows = yield from _row(rig, model, noise, token, shape)
            effect[token] = rows.mean(1) - now.corrupted
            error[token] = [standard_error(r - corrupted) for r in rows]
        now = replace(now, effect=effect, effect_se=error)
        yield Progress(token + 1, shape[0], f"token {token + 1} of {shape[0]}")
        yield now


def run_clean(rig: Rig, model: Model, prompt: Prompt) -> tuple[Prompt, float, tuple[tuple[str, float], ...]]:
    """Fills `rig.keep`; gives the prompt with its answer, P, and the likeliest next tokens. Raises `BadInput` on an answer without probability."""
    log_probs = rig.log_probs(1)[0]
    best = log_probs[0].topk(5)
    words = [model.tokenizer.decode([i]) for i in best.indices.tolist()]
    top = tuple(zip(words, best.values.exp().tolist(), strict=True))
    if not len(rig.answer):
        ids = word(model, prompt.ids, int(best.indices[0]))
        parts = [model.tokenizer.decode([i]) for i in ids]
        ends = [len("".join(parts[: i + 1]).lstrip()) for i in range(len(parts))]
        spans = tuple(zip([0, *ends[:-1]], ends, strict=True))
        prompt = replace(prompt, answer="".join(parts).strip(), answer_ids=ids, answer_spans=spans)
        rig.answer, rig.keep = torch.tensor(ids, device=rig.ids.device), []
        log_probs = rig.log_probs(1)[0]
    clean = log_probs[:-1].gather(1, rig.answer.unsqueeze(1)).sum().exp().item()
    if not clean > min(1e-4, 0.5 / log_probs.shape[1]):
        raise BadInput(f"the model gives {prompt.answer!r} a probability of {clean:.1e} here, so there is nothing to trace",
                       "it does not know this, or it expects other words",
                       f"Leave the answer empty to take the model's own: {words[0].strip()!r} ({top[0][1]:.2f})", setting="answer")
    return prompt, clean, top


def _corrupted(rig: Rig, noise: Tensor) -> Tensor:
    rig.noise = noise
    return rig.probability(len(noise))


def _row(rig: Rig, model: Model, noise: Tensor, token: int, shape: tuple[int, int]) -> Generator[Event, None, np.ndarray]:
    """Restores `token` at every layer under every sample; returns the answer's probability, (layers, samples)."""
    layers, samples = torch.arange(shape[1], device=noise.device), len(noise)
    plan = layers.repeat_interleave(samples)
    found, size = [], chunk(model, rig)
    rig.token = token
    for start in range(0, len(plan), size):
        rig.restore = plan[start : start + size]
        rig.noise = noise[torch.arange(start, start + len(rig.restore), device=noise.device) % samples]
        found.append(rig.probability(len(rig.restore)))
        if start + size < len(plan):
            yield Progress(token, shape[0], f"token {token + 1} of {shape[0]}")
    return torch.cat(found).double().cpu().numpy().reshape(shape[1], samples)


def chunk(model: Model, rig: Rig) -> int:
    """Rows a forward: bounded by work, not by the clock, so that the same run is cut in the same way every time."""
    weights = sum(p.numel() for p in model.net.parameters())
    work = WORK.get(rig.ids.device.type, WORK["other"])
    return max(1, int(work / (weights * (len(rig.ids) + len(rig.answer)))))


def standard_error(values: np.ndarray) -> float:
    """Of the mean of `values` (samples,): standard deviation over the square root of their number."""
    return float(values.std(ddof=1) / np.sqrt(len(values)))
