"""How the cells are run: which way is chosen and what happens when it is wrong, long prompts, padding, half precision, batches and stopping."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Generator
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from lab.data import Data
from lab.events import TraceMap
from lab.trace import _map, _replay
from lab.trace._corrupt import Corruption
from lab.trace._map import windows
from lab.trace._replay import Memory, Replay, Unsuitable
from lab.trace._score import Score
from lab.trace._sweep import cell, sweep
from lab.trace.causal import CausalTrace
from models.model import Model, blocks
from tests import families
from tests.conftest import PROMPT, SUBJECT
from tests.test_trace_families import KINDS, SUBJECTS, expected, likely, same, tiny, traced

EVERY = ("hidden", *KINDS)
STEP = 2**-7  # of a bfloat16 between 1 and 2, as the logits are
LONG = "the river is near a city in Germany and the sea of Peru Anna Marlow is by a Tower which was found in Spain by train , the Lima is"


@pytest.fixture
def lengthened():
    """Settings that make effects large, on a short prompt."""
    return {"score": "log probability", "noise": 20.0}


@pytest.mark.parametrize("kind", EVERY)
def test_a_wrong_way_of_running_cells_is_noticed_and_the_next_one_taken(kind, lengthened, monkeypatch):
    """Keys and values of the tokens before are lost: the self-check sees it, and blocks are run on all tokens instead."""
    model, behind = tiny("llama"), _replay.behind
    monkeypatch.setattr(_replay, "behind", lambda before, now: behind(torch.zeros_like(before), now))
    event = traced(model, kind=kind, **lengthened)
    assert event.engine == "restart" and event.check < 1e-5
    same(event, *expected(model, event, "llama"), 5e-6, 1e-2)


def test_a_way_of_running_cells_that_breaks_off_is_left_for_the_next(lengthened, monkeypatch):
    """A cache that some block does not understand need not give a wrong number: it may end in an error."""
    model = tiny("llama")

    def update(memory: Memory, keys: torch.Tensor, values: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor, torch.Tensor]:
        if memory.record:
            memory.made.append((keys, values))
        return keys, values  # nothing of what came before, so fewer keys than the mask has

    monkeypatch.setattr(Memory, "update", update)
    event = traced(model, **lengthened)
    assert event.engine == "restart" and event.check < 1e-5
    same(event, *expected(model, event, "llama"), 5e-6, 1e-2)


@pytest.mark.parametrize("name, kind", [("mamba", "hidden"), *(("llama", kind) for kind in EVERY)])
def test_where_nothing_fits_whole_forwards_are_run(name, kind, lengthened, monkeypatch):
    model, block = tiny(name), Replay.block
    monkeypatch.setattr(Replay, "block", lambda *args, **named: block(*args, **named) + 0.3)
    event = traced(model, kind=kind, **lengthened)
    assert event.engine == "plain" and math.isnan(event.check)
    same(event, *expected(model, event, name), 5e-6, 1e-2)


def test_a_slight_error_is_noticed_too(lengthened, monkeypatch):
    model, behind = tiny("gpt2"), _replay.behind
    monkeypatch.setattr(_replay, "behind", lambda before, now: behind(before * 1.01, now))
    event = traced(model, **lengthened)
    assert event.engine == "restart"
    same(event, *expected(model, event, "gpt2"), 5e-6, 1e-2)


def odd(base: type) -> type:
    class Odd(base):  # type: ignore[valid-type,misc]
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            return super().forward(*args, **kwargs)

    return Odd


@pytest.mark.parametrize("kind", ["hidden", "mlp"])
def test_blocks_that_take_anything_are_run_plainly(kind, lengthened):
    """Blocks that do not say what they take, as those that someone wrapped: their arguments cannot be cut, but a trace is possible."""
    net = families.family("llama")[1]
    for block in blocks(net):
        block.__class__ = odd(type(block))
    model = Model("odd", net, families.tokenizer())
    event = traced(model, kind=kind, **lengthened)
    same(event, *expected(model, event, "llama"), 5e-6, 1e-2)
    assert event.engine == "plain" and math.isnan(event.check)


@pytest.mark.parametrize("name", ["gpt2", "gemma2"])
def test_blocks_keep_a_forward_of_their_own(name, lengthened):
    """Accelerate puts a forward of its own on blocks that it moves; here one that scales what a block gives, so that losing it shows."""
    def doubled(block: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        out = type(block).forward(block, *args, **kwargs)
        return (2 * out[0], *out[1:]) if isinstance(out, tuple) else 2 * out

    net = families.family(name)[1]
    for block in blocks(net):
        block.forward = functools.update_wrapper(functools.partial(doubled, block), block.forward)
    model = Model("doubled", net, families.tokenizer())
    event = traced(model, **lengthened)
    assert abs(event.clean - traced(tiny(name), answer=event.answer, **lengthened).clean) > 1e-2
    same(event, *expected(model, event, name), 5e-6, 1e-2)


@pytest.mark.parametrize("kind", ["hidden", "mlp"])
def test_a_net_outside_the_device(kind, lengthened):
    """As accelerate leaves one that does not fit: its parameters are shadows."""
    from accelerate import cpu_offload  # type: ignore[import-untyped]

    near = tiny("gpt2")
    far = Model("far", cpu_offload(copy.deepcopy(near.net), execution_device="cpu"), near.tokenizer)
    assert far.net.get_input_embeddings().weight.is_meta
    one, two = traced(near, kind=kind, **lengthened), traced(far, kind=kind, **lengthened)
    np.testing.assert_allclose(two.effect, one.effect, atol=1e-5)
    assert np.abs(one.effect).max() > 1e-2 and two.engine == "suffix"


@pytest.mark.parametrize("name, kind", [("mistral", "hidden"), ("mistral", "attention"), ("gemma2", "mlp"), ("gemma3", "hidden"), ("gemma3", "severed mlp")])
def test_prompts_longer_than_a_sliding_window(name, kind, lengthened):
    model = tiny(name)
    event = traced(model, prompt=LONG, subject="Anna Marlow", kind=kind, answer=likely(model, LONG, 2), **lengthened)
    assert len(event.tokens) == 30 > 3 * 8 and event.engine == "suffix"
    same(event, *expected(model, event, name), 5e-6, 1e-2)


@pytest.mark.parametrize("kind", ["hidden", "mlp"])
@pytest.mark.parametrize("name", ["mistral", "gemma3"])
def test_a_subject_out_of_reach(name, kind, lengthened):
    """Three blocks with a window of eight see no further than 21 tokens: nothing has an effect, and rounding alone is no reason to run cells otherwise."""
    event = traced(tiny(name), prompt=f"Anna {LONG}", subject="Anna", kind=kind, **lengthened)
    assert abs(event.total_effect) < 2e-6 and np.abs(event.effect).max() < 3e-6
    assert event.engine == "suffix"


@pytest.mark.parametrize("name", ["gpt2", "opt", "mamba", "jamba", "gemma3"])
def test_a_prompt_of_one_token(name, lengthened):
    model = tiny(name)
    event = traced(model, prompt="France", subject="France", **lengthened)
    assert event.effect.shape == (1, families.LAYERS)
    same(event, *expected(model, event, name), 5e-6, 1e-2)
    np.testing.assert_allclose(event.effect, event.total_effect, atol=5e-6)  # whatever is restored there restores all


def ended(run: Generator[None, None, torch.Tensor]) -> torch.Tensor:
    while True:
        try:
            next(run)
        except StopIteration as end:
            return end.value


def direct(model: Model, ids: torch.Tensor, subject: tuple[int, int], change: torch.Tensor, kind: str, answer: list[int], suffix: bool,
           mask: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores (every other token from the subject on, layers, runs) by a replay, with `change` added to the subject's embeddings; and those of its base rows."""
    site = kind.removeprefix("severed ")
    replay = Replay(model, ids, len(answer), subject, frozenset({"hidden", site}), suffix, mask=mask)
    score = Score("log probability", torch.tensor(answer))
    base = score(replay.base(Corruption(ids.expand(len(change), -1), change)))
    cells = [cell(kind, layer, window, replay.layers) for layer, window in enumerate(windows(kind, 2, replay.layers))]
    prompt = len(ids) - len(answer) + 1
    return torch.stack([ended(sweep(replay, score, cells, token, len(change))) for token in range(subject[0], prompt, 2)]), base


@pytest.mark.parametrize("kind, suffix", [("hidden", True), ("mlp", True), ("mlp", False)])
@pytest.mark.parametrize("name", ["gpt2", "llama", "gpt_neox", "opt", "bloom", "gemma2"])
def test_padding_before_the_prompt_changes_nothing(name, kind, suffix):
    model, ids, answer, pads = tiny(name), families.prompts(1, 10)[0], [9, 12], 3
    change = torch.randn(2, 2, families.WIDTH, generator=torch.Generator().manual_seed(0))
    whole, base = direct(model, ids, (2, 4), change, kind, answer, suffix)
    padded, padded_base = direct(model, torch.cat([torch.zeros(pads, dtype=torch.long), ids]), (2 + pads, 4 + pads), change, kind, answer, suffix,
                                 torch.tensor([0] * pads + [1] * 10))
    torch.testing.assert_close(padded_base, base, atol=1e-5, rtol=0)
    torch.testing.assert_close(padded, whole, atol=1e-5, rtol=0)
    assert (whole - base[1:]).abs().max() > 1e-2 and (base[1:] - base[0]).abs().max() > 1e-2


@pytest.mark.parametrize("name, kind, suffix", [*product(("llama", "gpt2"), EVERY, (True, False)), ("jamba", "hidden", False)])
def test_restoring_clean_states_into_a_clean_run_changes_nothing(name, kind, suffix):
    scores, base = direct(tiny(name), families.prompts(1, 9)[0], (3, 5), torch.zeros(3, 2, families.WIDTH), kind, [9, 12], suffix)
    torch.testing.assert_close(base, base[:1].expand(4), atol=2e-6, rtol=0)
    torch.testing.assert_close(scores, base[0].expand(scores.shape), atol=2e-6, rtol=0)


@pytest.mark.parametrize("name, kind", [
    ("gpt2", "mlp"), ("gpt_neox", "hidden"), ("llama", "hidden"), ("llama", "mlp"), ("opt", "mlp"), ("mixtral", "mlp"), ("mamba", "hidden")])
def test_half_precision(name, kind, lengthened):
    """No further from the plain loop in bfloat16 than rounding explains: the step of a logit, or what parts that loop from one in float32."""
    answer, full = likely(tiny(name), PROMPT, 1), tiny(name)
    half = Model(name, copy.deepcopy(full.net).to(torch.bfloat16), full.tokenizer)
    event = traced(half, answer=answer, kind=kind, **lengthened)
    assert event.engine == ("restart" if name == "mamba" else "suffix") and event.check < 0.05 * max(1, abs(event.clean))
    effects = []
    for model in (half, full):
        scores, _, corrupted = expected(model, event, name)
        effects.append(scores.mean(2) - corrupted.mean())
    rounding = max(2 * np.abs(effects[0] - effects[1]).max(), 2 * STEP)
    assert np.abs(event.effect - effects[0]).max() <= rounding < np.abs(effects[1]).max() / 2


@pytest.mark.parametrize("kind", EVERY)
def test_how_rows_are_cut_into_batches_changes_nothing(kind, lengthened, monkeypatch):
    model, block = tiny("llama"), Replay.block
    events, calls = [], []
    monkeypatch.setattr(Replay, "block", lambda *args, **named: calls.append(len(args[2])) or block(*args, **named))
    for work in (1.0, 6 * 8 * 10240, 1e15):  # one row, some rows of a cell, all at once
        monkeypatch.setitem(_replay.BASE, "cpu", work)
        calls.clear()
        events.append((traced(model, kind=kind, samples=5, answer="Paris Rome", **lengthened), len(calls), max(calls)))
    assert events[0][1] > events[1][1] >= events[2][1] and events[0][2] == 1 < events[1][2] <= events[2][2]
    for event, _, _ in events[:2]:
        np.testing.assert_allclose(event.effect, events[2][0].effect, atol=5e-6)
        np.testing.assert_allclose(event.approximation, events[2][0].approximation, atol=5e-6)
    assert np.abs(events[2][0].effect).max() > 1e-2


@pytest.mark.parametrize("engine", ["suffix", "restart", "plain"])
@pytest.mark.parametrize("kind", ["hidden", "mlp", "severed mlp"])
def test_it_can_be_stopped_between_any_two_batches(engine, kind, monkeypatch):
    model, done = tiny("gpt2"), []
    one, whole = Replay.block, _replay.forward
    monkeypatch.setattr(Replay, "block", lambda *args, **named: done.append("block") or one(*args, **named))
    monkeypatch.setattr("lab.trace._sweep.forward", lambda *args, **named: done.append("whole") or whole(*args, **named))
    monkeypatch.setitem(_replay.BASE, "cpu", 1.0)
    base = Replay.base

    def choosy(replay: Replay, *args: Any, **named: Any) -> torch.Tensor:
        if engine != ("suffix" if replay.suffix else "restart" if replay.again else "plain"):
            raise Unsuitable("another is to be tried")
        return base(replay, *args, **named)

    monkeypatch.setattr(Replay, "base", choosy)
    seen = 0
    for event in CausalTrace(prompt=PROMPT, subject=SUBJECT, samples=4, kind=kind).run(model, Data(SUBJECTS)):
        assert len(done) <= 1 + (isinstance(event, TraceMap) or done[-1:] == ["whole"])  # the self-check is one more
        seen += len(done)
        done.clear()
    assert seen > 20 and isinstance(event, TraceMap) and event.engine == engine


@pytest.mark.parametrize("name, kind", [("mamba", "hidden"), *(("llama", kind) for kind in EVERY)])
def test_every_cell_is_run_or_filled(name, kind, monkeypatch):
    ran: list[tuple[int, int]] = []

    def counted(replay, score, cells, token, runs):
        ran.extend((token, i) for i in range(len(cells)))
        return sweep(replay, score, cells, token, runs)

    monkeypatch.setattr(_map, "sweep", counted)
    event = traced(tiny(name), kind=kind)
    tokens, layers = event.effect.shape
    begin, last = event.subject[0], layers - 1
    alone = [w for w in event.windows if w[0] == last]  # windows that hold nothing but the last layer
    assert event.cells == tokens * layers == event.filled + len(ran)
    assert event.filled == begin * layers + (tokens - 1 - begin) * len(alone)
    assert int((event.effect == 0).sum()) >= event.filled
    assert 0 < event.flops < event.loop_flops


@pytest.mark.parametrize("kind, width, layers, known", [
    ("mlp", 3, 5, ((0, 2), (0, 3), (1, 4), (2, 5), (3, 5))),
    ("attention", 4, 5, ((0, 2), (0, 3), (0, 4), (1, 5), (2, 5))),
    ("mlp", 1, 3, ((0, 1), (1, 2), (2, 3))),
    ("mlp", 2, 3, ((0, 1), (0, 2), (1, 3))),
    ("attention", 10, 3, ((0, 3), (0, 3), (0, 3))),
    ("attention", 200, 3, ((0, 3), (0, 3), (0, 3))),
    ("mlp", 5, 4, ((0, 3), (0, 4), (0, 4), (1, 4))),
    ("mlp", 1, 1, ((0, 1),)),
    ("hidden", 7, 3, ((0, 1), (1, 2), (2, 3))),
    ("severed mlp", 7, 2, ((0, 1), (1, 2))),
])
def test_windows_by_hand(kind, width, layers, known):
    assert windows(kind, width, layers) == known


@pytest.mark.parametrize("layers, width", [(1, 2), (3, 2), (12, 2), (16, 3), (24, 5), (32, 7), (48, 10), (96, 20)])
def test_a_window_is_ten_layers_in_forty_eight_and_in_proportion(layers, width):
    assert windows("mlp", 0, layers) == windows("mlp", width, layers)
    assert max(b - a for a, b in windows("mlp", 0, layers)) == min(width, layers)
    assert windows("hidden", 0, layers) == tuple((i, i + 1) for i in range(layers))
