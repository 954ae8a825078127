"""What the full model loses when it reads on from the states of another: patching, layer by layer, where the answer is predicted."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from lab.items import Item
from lab.memorization._rows import Row, question
from lab.ruler._answers import batches, coded, forward
from lab.trace._sites import with_state
from models.model import Model, blocks


class Patched:
    """A private net whose block `layer` can be given other states at some places; the states that its blocks gave last are `states`."""

    def __init__(self, model: Model) -> None:
        self.net = model.skeleton()
        self.states: list[Tensor] = []
        self.layer, self.value, self.places = -1, torch.zeros(0), torch.zeros(0, dtype=torch.bool)
        for i, block in enumerate(blocks(self.net)):
            block.register_forward_hook(self._pass(i))

    def _pass(self, layer: int) -> Any:
        def hook(_: nn.Module, args: Any, output: Any) -> Any:
            state = output[0] if isinstance(output, tuple) else output
            if layer == self.layer:
                output = with_state(output, state := torch.where(self.places[..., None], self.value.to(state), state))
            self.states.append(state)
            return output
        return hook

    def run(self, rows: Sequence[Row], layer: int = -1, value: Tensor | None = None, places: Tensor | None = None) -> Float[Tensor, " rows"]:
        """Mean log-probability of the tokens of each answer, in nats; with `layer`, after `value` was put into its output at `places`."""
        self.states, self.layer = [], layer
        if value is not None and places is not None:
            self.value, self.places = value, places
        log_probs = forward(self.net, [r.ids for r in rows]).float().log_softmax(-1).cpu()
        return torch.stack([log_probs[i, r.start - 1 : len(r.ids) - 1].gather(1, torch.tensor(r.answer)[:, None]).mean() for i, r in enumerate(rows)])


KNOWN = 480  # facts that an oracle and the model know, by which the oracle's states are turned


def drawn(full: Model, items: Sequence[Item], most: int, seed: int) -> list[Row]:
    """Up to `most` of the items as rows, in an order drawn by seed."""
    order = torch.randperm(len(items), generator=torch.Generator().manual_seed(seed))[:most].tolist()
    return [r for i in order if (r := coded(full, question(items[i]), items[i].answer))]


Maps = Sequence[Float[Tensor, "source full"]]


def drops(source: Model, full: Model, rows: Sequence[Row], maps: Maps = ()) -> Generator[None, None, Float[np.ndarray, "rows layers"]]:
    """By how much the mean log-probability of each answer falls in `full` when the output of a layer is that of `source` at the tokens from which the
    answer is predicted; nats, higher: the source lacks more of it there. Both are of one architecture and tokenizer. `maps` turn the source's states,
    layer by layer, into those of `full`. Yields between passes."""
    ours, theirs = Patched(full), Patched(source)
    found = np.zeros((len(rows), len(blocks(full.net))))
    for index in batches(full.net, rows):
        mine = [rows[i] for i in index]
        width = max(len(r.ids) for r in mine)
        places = torch.tensor([[r.start - 1 <= t < len(r.ids) - 1 for t in range(width)] for r in mine], device=full.device)
        theirs.run(mine)
        states = [s.to(full.device) for s in theirs.states]
        states = [extended(s.double()) @ m for s, m in zip(states, maps, strict=True)] if maps else states
        yield
        whole = ours.run(mine)
        for layer, value in enumerate(states):
            found[index, layer] = (whole - ours.run(mine, layer, value, places)).numpy()
            yield
    return found


def extended(states: Float[Tensor, "*more width"]) -> Float[Tensor, "*more one"]:
    return torch.cat([states, torch.ones_like(states[..., :1])], -1)


def alignment(source: Model, full: Model, rows: Sequence[Row], ridge: float = 1e-4) -> Generator[None, None, list[Tensor]]:
    """For every layer the affine map, (width + 1, width) in float64, that brings the states of `source` nearest to those of `full` in least squares, at the
    tokens from which the answers of `rows` are predicted: nets of other initial weights keep the same things along other directions (model stitching,
    Bansal et al. 2021, arXiv 2106.07682). `ridge` is in units of the mean squared state. Yields between batches."""
    nets = (Patched(source), Patched(full))
    seen: tuple[list[list[Tensor]], ...] = tuple([[] for _ in blocks(full.net)] for _ in nets)
    for index in batches(full.net, rows):
        mine = [rows[i] for i in index]
        for net, into in zip(nets, seen, strict=True):
            net.run(mine)
            for layer, state in enumerate(net.states):
                into[layer].append(torch.cat([state[j, r.start - 1 : len(r.ids) - 1] for j, r in enumerate(mine)]).double())
        yield
    found = []
    for theirs, ours in zip(*seen, strict=True):
        x, y = extended(torch.cat(theirs)), torch.cat(ours).to(theirs[0].device)
        square = x.T @ x
        found.append(torch.linalg.solve(square + ridge * square.diagonal().mean() * torch.eye(len(square)).to(square), x.T @ y).to(full.device))
    return found


def lacks(oracle: Model, full: Model, rows: Sequence[Row], known: Sequence[Row]) -> Generator[None, None, tuple[np.ndarray, np.ndarray]]:
    """(rows, layers): the drops of an oracle, its states turned into those of `full`, less what this costs on rows that both know; and that cost, (layers,).

    The map is fitted on three quarters of `known`, the cost is measured on the others.
    """
    cut = max(1, len(known) // 4)
    maps = yield from alignment(oracle, full, known[cut:])
    cost = (yield from drops(oracle, full, known[:cut], maps)).mean(0)
    return (yield from drops(oracle, full, rows, maps)) - cost, cost
