"""Attributions: how much every token of a prompt counts for the answer, by gradients and by leaving tokens out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from lab.events import Event, Grid, Progress
from lab.experiment import Experiment, setting
from models.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lab.data import Data
    from lab.trace._prompt import Prompt
    from models.model import Model

METHODS = ("gradient x input", "gradient x change", "feature ablation", "integrated gradients")
BASELINES = ("mean", "token", "zero")
ABSENT = -1  # the id of an absent token: no tokenizer has it
FLOATS = 2**27  # that one batch of integration steps may hold at once


@dataclass(frozen=True, kw_only=True)
class Attributions(Experiment):
    """What every token adds to f(x) = log P(answer | prompt), over all tokens of the answer, in nats: any real number.

    x[t] is the embedding of token t, b that of an absent token. The rows:
    gradient x input: x[t] . df/dx[t] (Shrikumar et al. 2016, arXiv 1605.01713), the cheapest; zero where a net first scales its embeddings to one
    length, as the bundled organisms do, since then f does not change along x[t];
    gradient x change: (x[t] - b) . df/dx[t], the same towards an absent token, blind to what is saturated;
    feature ablation: f(x) - f(x with b for x[t]) (Zeiler & Fergus 2013, arXiv 1311.2901), where what two tokens both say counts for neither;
    integrated gradients: (x[t] - b) . (mean over a in 0..1 of df/dx[t] at b + a (x - b)), which sum to f(x) - f(b) but for the error of the
    integral, shown as the gap. All are computed by captum. They correlate the answer with its tokens; where in the net it is held, and what
    brings it back, a causal trace tells. Nothing is drawn at random.
    """

    title = "Attributions to the prompt's tokens"
    paper = "Sundararajan et al. 2017, arXiv 1703.01365; library: Kokhlikyan et al. 2020, arXiv 2009.07896"
    direction = "higher: this token raises the log probability of the answer; below zero: it lowers it"
    random = False
    prompt: str = setting("The capital of France is", "Beginning of a sentence that the answer completes", lines=2)
    answer: str = setting("", "What should follow the prompt; empty takes what the model itself finds most likely")
    steps: int = setting(32, "Points on the path that integrated gradients average over; the gap shrinks with more", low=8, high=256)
    baseline: str = setting("mean", "What stands for an absent token: the mean of all embeddings, the token that pads or ends texts, or zeros",
                            choices=BASELINES)

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.trace._tail import asked

        yield Progress(0, len(METHODS), "the model's own answer")
        prompt = asked(model, self.prompt, self.answer)
        score = Score(model.skeleton(), prompt, absent(model, self.baseline), model.device)
        nothing = np.full((len(METHODS), len(prompt.ids)), np.nan)
        now = Grid(f"Attributions: {prompt.answer}", METHODS, prompt.tokens, "method", "token", nothing, nothing, "nats of log probability",
                   self.direction, diverging=True)
        full, empty = score.value(score.ids), score.value(score.none)
        facts = (f"log P({prompt.answer}) = {full:.3f} (P = {np.exp(full):.3f}); with every token absent {empty:.3f}",)
        for row, method in enumerate(METHODS):
            yield Progress(row, len(METHODS), method)
            value = now.value.copy()
            value[row] = attribute(score, method, self.steps)
            now = replace(now, value=value, facts=facts)
            if row < len(METHODS) - 1:
                yield now
        total = float(now.value[-1].sum())
        yield replace(now, facts=(*facts, f"Integrated gradients sum to {total:.3f} where they should to {full - empty:.3f}: completeness gap "
                                          f"{abs(total - (full - empty)):.2g} at {self.steps} steps"))


@dataclass
class Score:
    """f on a private net, whose table gives `missing` (width,) for the id `ABSENT`: so all methods mean the same by an absent token.

    captum has classes for language models, `LLMAttribution` and `LLMGradientAttribution`, around the same methods. They read the prompt again,
    with the marks that a tokenizer puts after a text and that would stand between prompt and answer, name the answer's tokens from their decoded
    letters, which fails where these are read as other tokens, and take one pass for each token of the answer. So captum gets f and the ids here.
    """

    net: nn.Module
    prompt: Prompt
    missing: Tensor
    device: Any

    def __post_init__(self) -> None:
        import torch

        from models.model import embedding

        self.ids, self.answer = (torch.tensor([ids], device=self.device) for ids in (self.prompt.ids, self.prompt.answer_ids))
        self.none = torch.full_like(self.ids, ABSENT)
        table: Any = embedding(self.net)
        plain, self.table = table.forward, table
        table.forward = lambda ids: torch.where((ids == ABSENT).unsqueeze(-1), self.missing, plain(ids.clamp(min=0)))

    def __call__(self, ids: Tensor) -> Tensor:
        """(rows, tokens) ids of prompts -> (rows,): log probability of the whole answer after each, float32."""
        import torch

        answer = self.answer.expand(len(ids), -1)
        logits = self.net(input_ids=torch.cat([ids, answer], 1), use_cache=False).logits[:, ids.shape[1] - 1 : -1]
        return logits.float().log_softmax(-1).gather(2, answer.unsqueeze(2)).sum((1, 2))

    def value(self, ids: Tensor) -> float:
        import torch

        with torch.no_grad():
            return float(self(ids))

    @property
    def rows(self) -> int:
        """Prompts a batch: bounded by what a pass and its gradient hold, counted from the sizes of the net."""
        from models.model import blocks

        vocabulary, width = self.table.weight.shape
        length = len(self.prompt.ids) + len(self.prompt.answer_ids)
        return max(1, FLOATS // (length * (3 * vocabulary + 32 * width * len(blocks(self.net)))))


def attribute(score: Score, method: str, steps: int) -> np.ndarray:
    """(tokens,): what each token of the prompt adds to the log probability of the answer, by one of `METHODS`."""
    from captum.attr import FeatureAblation, LayerGradientXActivation, LayerIntegratedGradients

    f, count = cast(Any, score), score.ids.shape[1]
    if method == "feature ablation":
        found = FeatureAblation(f).attribute(score.ids, baselines=ABSENT, perturbations_per_eval=score.rows)[0]
    elif method == "integrated gradients":
        path = LayerIntegratedGradients(f, score.table).attribute(score.ids, baselines=score.none, n_steps=steps, internal_batch_size=score.rows)
        found = path[0, :count].sum(-1)  # the rest is the answer's tokens, which are the same at both ends of the path
    else:
        slope = LayerGradientXActivation(f, score.table, multiply_by_inputs=False).attribute(score.ids)
        here = score.table(score.ids)
        found = (slope[:, :count] * (here if method == "gradient x input" else here - score.missing))[0].sum(-1)
    return found.detach().double().cpu().numpy()


def absent(model: Model, baseline: str) -> Tensor:
    """(width,): the embedding of an absent token, as the table gives it out. Raises `BadInput` where the tokenizer has no such token."""
    import torch

    from models.model import embedding

    table: Any = embedding(model.net)
    with torch.no_grad():
        if baseline == "token":
            own = (model.tokenizer.pad_token_id, model.tokenizer.eos_token_id, model.tokenizer.unk_token_id)
            token = next((i for i in own if i is not None), None)
            if token is None:
                raise BadInput(f"the tokenizer of {model.name} has no token that pads or ends texts", cure="Take the mean instead", setting="baseline")
            return table(torch.tensor(token, device=model.device))
        ids = torch.arange(len(table.weight), device=model.device)
        mean = sum(table(part).float().sum(0) for part in ids.split(4096)) / len(ids)  # a whole table in float32 may not fit
        return (mean * (baseline == "mean")).to(model.dtype)  # type: ignore[union-attr]
