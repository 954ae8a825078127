"""How often tokens of a mixture of experts are sent elsewhere, against ordinary hooks on the routers of whole forwards."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lab.events import from_json, to_json
from lab.trace import _replay
from lab.trace._replay import Replay
from lab.trace._routes import choices
from panels import terms
from panels.draw import draw
from tests._reference import Loop, Run, noisy
from tests.conftest import PROMPT
from tests.test_trace_families import coded, likely, tiny, traced


def routed(loop: Loop, run: Run, puts: Any = ()) -> list[Tensor]:
    """For every layer the experts (tokens, experts of a token) of one run, in order."""
    found: list[Tensor] = []
    hooks = [block.mlp.gate.register_forward_hook(lambda _, args, out: found.append(out[2].sort(-1).values)) for block in loop.blocks]
    loop(run, puts)
    for hook in hooks:
        hook.remove()
    return found


def counted(name: str, event: Any) -> tuple[int, int, int, int]:
    """What the map has to say: the last block is run on no more than the scored positions, and no block below the one that is restored."""
    model = tiny(name)
    before, answer = coded(model, event.prompt), coded(model, event.answer)
    ids, net = torch.tensor([*before, *answer[:-1]]), model.skeleton()
    runs = noisy(ids, event.subject, net.get_input_embeddings().weight.shape[1], event.noise_std, event.samples, 0)
    loop, begin = Loop(name, net, event.subject, len(before), answer, event.score), event.subject[0]
    kept, layers, scored = loop.states(Run(ids)), len(loop.blocks), len(ids) - len(answer)
    clean, counts = routed(loop, Run(ids)), [0, 0, 0, 0]
    for run in runs:
        own = routed(loop, run)
        for layer in range(layers):
            counts[0] += int((own[layer][begin:] != clean[layer][begin:]).any(-1).sum())
            counts[1] += len(ids) - begin
        for token in range(begin, len(before)):
            for layer in range(layers - 1):
                now = routed(loop, run, [("hidden", layer, token, kept["hidden", layer][token])])
                for above in range(layer + 1, layers):
                    first = max(token, scored) if above == layers - 1 else token
                    counts[2] += int((now[above][first:] != own[above][first:]).any(-1).sum())
                    counts[3] += len(ids) - first
    return tuple(counts)  # type: ignore[return-value]


@pytest.mark.parametrize("name", ["mixtral", "olmoe", "qwen3_moe"])
def test_choices_that_change_are_those_that_plain_forwards_see(name):
    model = tiny(name)
    event = traced(model, answer=likely(model, PROMPT, 2), noise=10.0, samples=3)
    assert event.engine == "suffix" and event.rerouted == counted(name, event)
    assert 0 < event.rerouted[0] < event.rerouted[1] and 0 < event.rerouted[2] < event.rerouted[3]


@pytest.mark.parametrize("kind", ["hidden", "mlp", "severed attention"])
def test_every_way_of_running_cells_sees_the_same_changes(kind, monkeypatch):
    """Ways that run more make more choices again, but no other ones."""
    model, asked = tiny("mixtral"), {"noise": 10.0, "kind": kind, "preview": False}
    fast = traced(model, **asked)
    monkeypatch.setattr(Replay, "_base", refusing(Replay._base))
    slower = traced(model, **asked)
    assert (fast.engine, slower.engine) == ("suffix", "restart")
    assert fast.rerouted[:2] == slower.rerouted[:2] and fast.rerouted[3] < slower.rerouted[3]
    assert 0 < fast.rerouted[2] <= slower.rerouted[2]


def refusing(base: Any) -> Any:
    def refused(replay: Replay, *args: Any) -> Tensor:
        if replay.suffix:
            raise _replay.Unsuitable("the next one is to be tried")
        return base(replay, *args)
    return refused


def test_whole_forwards_count_too(monkeypatch):
    block = Replay.block
    monkeypatch.setattr(Replay, "block", lambda *args, **named: block(*args, **named) + 0.3)
    event = traced(tiny("qwen3_moe"), noise=10.0)
    assert event.engine == "plain" and math.isnan(event.check)
    assert 0 < event.rerouted[2] < event.rerouted[3]


def test_a_net_is_asked_once_which_routers_it_has():
    first, again = (traced(tiny("mixtral"), noise=10.0) for _ in range(2))
    assert first.rerouted == again.rerouted != ()


@pytest.mark.parametrize("name", ["gpt2", "llama", "mamba"])
def test_a_dense_model_says_nothing(name):
    event = traced(tiny(name))
    assert event.rerouted == () and terms.rerouted(event) == ""
    assert "experts" not in str(draw(event).layout.title.text)


def test_the_page_says_it_and_a_file_keeps_it():
    event = traced(tiny("mixtral"), noise=10.0)
    said = terms.rerouted(event)
    assert f"{event.rerouted[0]:,} of {event.rerouted[1]:,} changed when corrupted" in said
    assert "choices of experts" in str(draw(event).layout.title.text)
    plain = to_json(event)
    assert from_json(plain).rerouted == event.rerouted  # type: ignore[union-attr]
    del plain["rerouted"]  # as in a file from before there was such a figure
    assert from_json(plain).rerouted == ()  # type: ignore[union-attr]


@pytest.mark.parametrize("output, known", [
    ((torch.rand(4, 3), torch.rand(4, 2), torch.tensor([[2, 0], [1, 2], [0, 1], [2, 1]])), [[[0, 2], [1, 2]], [[0, 1], [1, 2]]]),
    (torch.tensor([[[2], [1]], [[0], [1]]]), [[[2], [1]], [[0], [1]]]),
    (torch.rand(4, 3), None),
    (torch.tensor([[1, 0, 1], [0, 1, 1], [1, 1, 0], [0, 0, 1]]), None),  # a mask, not numbers of experts
    (torch.tensor([3, 1, 2, 0]), None),
    (torch.tensor([[0, 1], [1, 2], [0, 2]]), None),  # of three tokens where four ran
    ((torch.rand(4, 3).argmax(-1) > 0, None), None),
])
def test_choices_by_hand(output, known):
    found = choices(output, 2)
    assert found is None if known is None else found is not None and found.tolist() == known


def test_the_shared_model_keeps_no_hook():
    model = tiny("mixtral")
    traced(model)
    assert not any(m._forward_hooks for m in model.net.modules() if isinstance(m, nn.Module))
