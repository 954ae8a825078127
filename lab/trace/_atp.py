"""AtP and AtP* of queries, keys and values, and the exact effects of chosen ones. Source: Kramár et al. 2024, arXiv 2403.00745."""

from __future__ import annotations

import random
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from scipy.stats import spearmanr
from torch import Tensor, nn

from lab.data import Data
from lab.events import Event, Progress, Scatter
from lab.trace._case import Case, prepare
from lab.trace._corrupt import Corrupter
from lab.trace._one import question
from lab.trace._replay import forward, log_probs, pieces
from lab.trace._sites import state, with_state
from models.attention import KEY, PATTERN, QUERY, VALUE, HeadPut, Watch
from models.errors import BadInput
from models.model import Model, blocks, embedding

if TYPE_CHECKING:
    from lab.trace.attribution import AttributionPatching

PARTS = frozenset({QUERY, KEY, VALUE, PATTERN})


@dataclass
class Opened:
    """A private net with its attention opened, and what the clean run had in it: (part, layer) -> (heads, tokens, size)."""

    case: Case
    net: nn.Module
    watch: Watch
    corrupter: Corrupter
    clean: dict[tuple[str, int], Tensor]

    def log_probs(self, rows: Tensor) -> Tensor:
        """(rows, steps, vocabulary); -1 is the clean run."""
        replay, self.corrupter.rows, self.watch.kept = self.case.replay, rows, {}
        return log_probs(forward(self.net, self.corrupter.ids(replay.ids), replay.steps, None, use_cache=False))

    @property
    def layers(self) -> list[int]:
        return sorted(layer for part, layer in self.clean if part == QUERY)


def opened(case: Case) -> Opened:
    """Raises `BadInput` where the model does not let its attention be chosen."""
    net = case.replay.model.skeleton()
    found = Opened(case, net, Watch(net, PARTS), Corrupter(net, case.prompt.subject), {})
    found.corrupter.corruption = case.corruption
    with torch.no_grad():
        score = float(case.score(found.log_probs(torch.full((1,), -1, device=case.replay.ids.device)))[0])
    found.clean = {key: value[0] for key, value in found.watch.kept.items()}
    if not found.clean or abs(score - case.clean) > 1e-3:
        raise BadInput(f"the attention of {type(net).__name__} cannot be opened", "it does not go through the interface of transformers",
                       "Look at single heads instead", setting="model")
    embedding(net).register_forward_hook(lambda _, args, output: output.detach().requires_grad_())  # where the graph begins
    return found


def estimates(found: Opened, part: str, fix: bool) -> Float[np.ndarray, "runs layers heads tokens"]:
    """AtP of every node of a kind in every run; with `fix`, of queries and keys through the softmax taken again."""
    runs, out = found.case.runs, []
    work = 2 * sum(found.case.replay.sizes) * found.case.replay.tokens
    for rows in pieces(runs, max(1, int(16 * found.case.replay.device_work / work))):
        with torch.enable_grad():
            total = found.case.score(found.log_probs(torch.arange(rows.start, rows.stop, device=found.case.replay.ids.device))).sum()
        read = PATTERN if fix and part != VALUE else part
        grads = torch.autograd.grad(total, [found.watch.kept[read, layer] for layer in found.layers], allow_unused=True)
        with torch.no_grad():
            each = [_one_layer(found, part, layer, grad, fix) for layer, grad in zip(found.layers, grads, strict=True)]
        out.append(torch.stack(each, 1))
    return torch.cat(out).double().cpu().numpy()


def _one_layer(found: Opened, part: str, layer: int, grad: Tensor | None, fix: bool) -> Float[Tensor, "rows heads tokens"]:
    now, clean = found.watch.kept[part, layer], found.clean[part, layer]
    if grad is None:
        return torch.zeros(now.shape[:3], device=now.device)
    if not fix or part == VALUE:
        return ((clean - now) * grad).sum(-1)
    call, pattern = found.watch.calls[layer], found.watch.kept[PATTERN, layer]
    query, key = found.watch.kept[QUERY, layer], found.watch.kept[KEY, layer].repeat_interleave(call.groups, 1)
    if part == QUERY:
        again = call.pattern(clean @ key.transpose(2, 3))
        return ((again - pattern) * grad).sum(-1)
    logits, change = query @ key.transpose(2, 3), []
    column = query @ clean.repeat_interleave(call.groups, 0).transpose(1, 2)  # what the logits were with each clean key
    for token in range(key.shape[2]):
        mixed = logits.clone()
        mixed[..., token] = column[..., token]
        change.append(((call.pattern(mixed) - pattern) * grad).sum((-1, -2)))
    return torch.stack(change, -1).unflatten(1, (-1, call.groups)).sum(2)  # a shared key is one node


def dropped(found: Opened, part: str, fix: bool) -> Generator[Event, None, Float[np.ndarray, "layers heads tokens"]]:
    """GradDrop: the sum over layers of the absolute estimates with what that layer adds left out of the gradient, over one less than their number."""
    total, stack = np.zeros(0), list(blocks(found.net))
    for i, block in enumerate(stack):
        yield Progress(i, len(stack), f"gradient without layer {i}")
        enters: list[Tensor] = []
        hooks = [block.register_forward_pre_hook(lambda _, args, kwargs, enters=enters: enters.append(args[0] if args else kwargs["hidden_states"]),
                                                 with_kwargs=True),
                 block.register_forward_hook(lambda _, args, out, enters=enters: with_state(out, _skip(enters.pop(), state(out))))]
        try:
            one = np.abs(estimates(found, part, fix).mean(0))
        finally:
            for hook in hooks:
                hook.remove()
        total = one if not total.size else total + one
    return total / max(1, len(stack) - 1)


def _skip(enters: Tensor, leaves: Tensor) -> Tensor:
    """The same value, with a gradient that goes around the block."""
    return enters + (leaves - enters).detach()


def exact(found: Opened, part: str, nodes: list[tuple[int, int, int]]) -> Generator[Event, None, np.ndarray]:
    """(nodes,): mean over the runs of the score with one node (layer, head, token) restored, less the corrupted score."""
    runs, out = found.case.runs, np.empty(len(nodes))
    size = max(1, int(found.case.replay.device_work / (sum(found.case.replay.sizes) * found.case.replay.tokens * runs)))
    for some in pieces(len(nodes), size):
        yield Progress(some.start, len(nodes), f"node {some.start + 1} of {len(nodes)}")
        found.watch.puts = {}
        for i, (layer, head, token) in enumerate(nodes[some]):
            value = found.clean[part, layer][head, token].expand(runs, -1)
            found.watch.puts.setdefault((part, layer), []).append(HeadPut(slice(i * runs, (i + 1) * runs), head, token, value))
        rows = torch.arange(runs, device=found.case.replay.ids.device).repeat(some.stop - some.start)
        with torch.no_grad():
            scores = found.case.score(found.log_probs(rows)).double().cpu().numpy()
        out[some] = (scores.reshape(-1, runs) - found.case.corrupted).mean(1)
    found.watch.puts = {}
    return out


def compare(settings: AttributionPatching, model: Model, data: Data) -> Iterator[Event]:
    """Ends with the points of the nodes that were run."""
    yield Progress(0, 0, "clean and corrupted runs")
    case = prepare(model, question(settings), data.subjects, frozenset())
    found, part = opened(case), settings.node
    yield Progress(0, 0, "gradients")
    guesses = {"AtP": estimates(found, part, False).mean(0), "AtP with QK fix": estimates(found, part, True).mean(0)}
    guesses["AtP*"] = yield from dropped(found, part, True)
    first = case.prompt.subject[0]
    chosen = guesses[settings.estimate][..., first : len(case.prompt.ids)]
    order = [tuple(int(i) for i in np.unravel_index(flat, chosen.shape)) for flat in np.argsort(-np.abs(chosen), axis=None, kind="stable")]
    rest = order[settings.top :]
    nodes = order[: settings.top] + random.Random(settings.seed).sample(rest, min(settings.others, len(rest)))
    places = [(found.layers[layer], head, token + first) for layer, head, token in nodes]
    effect = yield from exact(found, part, places)
    at = tuple(np.array([(layer, head, token + first) for layer, head, token in nodes]).T)
    yield scatter(settings, case, places, {name: guess[at] for name, guess in guesses.items()}, effect)


def scatter(settings: AttributionPatching, case: Case, places: list[tuple[int, int, int]], guesses: dict[str, np.ndarray], effect: np.ndarray) -> Scatter:
    prompt, signless = case.prompt, settings.estimate == "AtP*"
    labels = tuple(f"layer {layer}, head {head}, {prompt.tokens[token].strip()!r} ({token})" for layer, head, token in places)
    ranks = "; ".join(f"{name} {spearmanr(np.abs(guess), np.abs(effect)).statistic:.3f}" for name, guess in guesses.items())
    return Scatter(
        f"{prompt.text} → {prompt.answer}", labels, guesses[settings.estimate], np.abs(effect) if signless else effect, settings.estimate,
        "absolute effect (exact)" if signless else "effect (exact)", True, settings.direction,
        facts=(f"{len(places)} {settings.node} nodes run exactly, {min(settings.top, len(places))} of them the strongest by {settings.estimate}",
               f"rank correlation of absolute values over these nodes: {ranks}"))
