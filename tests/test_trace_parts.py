"""Heads and neurons against hooks on the matrices that they go into, and two maps subtracted, by hand."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch

from lab.data import Data
from lab.events import Grid, Scatter, TraceMap
from lab.trace._corrupt import Corruption
from lab.trace._difference import difference, matched
from lab.trace._replay import Replay
from lab.trace._score import Score
from lab.trace._sites import ATTENTION, HEAD, NEURON
from lab.trace._sweep import Override, sweep
from lab.trace.heads import HeadTrace
from lab.trace.neurons import NeuronTrace
from models.errors import BadInput
from models.model import Model
from tests import families
from tests._reference import PARTS, hooked
from tests.conftest import PROMPT, SUBJECT
from tests.test_trace_engine import ended
from tests.test_trace_families import SUBJECTS, coded, likely, tiny

# in a block, the last matrix of its attention and of its MLP: what goes into them are the heads and the neurons
MATRICES = {
    "gpt2": ("attn.c_proj", "mlp.c_proj"), "gpt_neox": ("attention.dense", "mlp.dense_4h_to_h"), "gptj": ("attn.out_proj", "mlp.fc_out"),
    "llama": ("self_attn.o_proj", "mlp.down_proj"), "qwen3": ("self_attn.o_proj", "mlp.down_proj"), "gemma2": ("self_attn.o_proj", "mlp.down_proj"),
    "phi": ("self_attn.dense", "mlp.fc2"), "opt": ("self_attn.out_proj", "fc2"), "falcon": ("self_attention.dense", "mlp.dense_4h_to_h"),
    "bloom": ("self_attention.dense", "mlp.dense_4h_to_h"), "mixtral": ("self_attn.o_proj", ""), "jamba": ("self_attn.o_proj", "feed_forward.down_proj"),
}


def asked(kind, model, **settings) -> Any:
    every = {"prompt": PROMPT, "subject": SUBJECT, "samples": 2, "noise": 10.0} | settings
    return list(kind(**every).run(model, Data(SUBJECTS)))[-1]


class ByHand:
    """One whole forward a part and a run, with a hook on the matrix that it goes into."""

    def __init__(self, family: str, model: Model, answer: str, which: int) -> None:
        self.net, self.answer = model.skeleton(), coded(model, answer)
        self.ids = torch.tensor([[*coded(model, PROMPT), *self.answer[:-1]]])
        self.begin, self.start = 3, len(coded(model, PROMPT))
        stack: Any = self.net.get_submodule(PARTS[family][0])
        self.matrices = []
        for block in stack:
            try:
                self.matrices.append(block.get_submodule(MATRICES[family][which]))
            except AttributeError:
                self.matrices.append(None)
        ids = torch.tensor([i for s in SUBJECTS for i in coded(model, s)])
        table: Any = self.net.get_input_embeddings()
        with torch.no_grad():
            std = 10.0 * table(ids).std()
        self.noise = std * torch.randn(2, 2, families.WIDTH, generator=torch.Generator().manual_seed(0))

    def run(self, noise, layer=-1, token=0, part=slice(0), value=None, grad=None) -> tuple[float, list[torch.Tensor | None]]:
        """Probability of the answer, and what went into each matrix (rows, width)."""
        seen: list[torch.Tensor | None] = [None] * len(self.matrices)

        def before(i):
            def hook(_, args):
                new = args[0].clone().reshape(-1, args[0].shape[-1])
                if i == layer and value is not None:
                    new[token, part] = value
                seen[i] = new
                return (new.reshape(args[0].shape),)
            return hook

        handles = [m.register_forward_pre_hook(before(i)) for i, m in enumerate(self.matrices) if m is not None]

        def noised(out):
            out = out.clone()
            out[0, self.begin : self.begin + 2] += noise
            return out.requires_grad_() if grad is not None else out

        with hooked(self.net.get_input_embeddings(), noised), torch.set_grad_enabled(grad is not None):  # type: ignore[operator]
            log_probs = self.net(input_ids=self.ids, use_cache=False).logits[0, self.start - 1 :].log_softmax(-1)
            p = sum(log_probs[i, a] for i, a in enumerate(self.answer)).exp()  # type: ignore[union-attr]
        for handle in handles:
            handle.remove()
        if grad is not None:
            grad.append(torch.autograd.grad(p, seen[layer])[0])
        return float(p), seen

    def effects(self, layer: int, token: int, parts: list[slice]) -> np.ndarray:
        """(parts, runs): probability with each part restored, less that without."""
        _, clean = self.run(torch.zeros(2, families.WIDTH))
        return np.array([[self.run(n, layer, token, part, clean[layer][token, part])[0] - self.run(n)[0] for n in self.noise] for part in parts])


def wide() -> Model:
    """Grouped queries whose heads are wider together than the stream."""
    kind, sizes = families.FAMILIES["qwen3"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(families.FAMILIES, "qwen3", (kind, sizes | {"head_dim": 16}))
        return Model("wide", families.family("qwen3")[1], families.tokenizer())


@pytest.mark.parametrize("name", [*MATRICES, "wide"])
def test_heads_equal_hooks_on_the_matrix_they_go_into(name):
    model, family = (wide(), "qwen3") if name == "wide" else (tiny(name), name)
    answer, token = likely(model, PROMPT, 1), 5
    grid = asked(HeadTrace, model, token=token, answer=answer)
    assert isinstance(grid, Grid) and grid.value.shape == (families.HEADS, families.LAYERS)
    hand, largest = ByHand(family, model, answer, 0), 0.0
    for layer, matrix in enumerate(hand.matrices):
        if matrix is None:
            assert np.isnan(grid.value[:, layer]).all() and np.isnan(grid.error[:, layer]).all()
            continue
        size = (64 if name == "wide" else families.WIDTH) // families.HEADS
        expected = hand.effects(layer, token, [slice(h * size, (h + 1) * size) for h in range(families.HEADS)])
        np.testing.assert_allclose(grid.value[:, layer], expected.mean(1), atol=1e-7)
        np.testing.assert_allclose(grid.error[:, layer], np.abs(expected[:, 0] - expected[:, 1]) / 2, atol=1e-7)
        largest = max(largest, np.abs(expected).max())
    assert largest > 2e-5


def test_the_last_token_is_the_usual_one():
    one, two = (asked(HeadTrace, tiny("llama"), token=token) for token in (-1, 7))
    assert np.array_equal(one.value, two.value) and one.title == two.title and np.abs(one.value).max() > 1e-4


@pytest.mark.parametrize("suffix", [True, False])
@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma2", "mistral", "mixtral", "olmo2", "gpt2", "opt"])
def test_all_heads_of_a_layer_together_are_its_attention(name, suffix):
    model, ids = tiny(name), families.prompts(1, 9)[0]
    replay = Replay(model, ids, 2, (3, 5), frozenset({HEAD, ATTENTION}), suffix)
    score = Score("log probability", torch.tensor([9, 12]))
    base = score(replay.base(Corruption(ids.expand(2, -1), 5 * torch.randn(2, 2, families.WIDTH, generator=torch.Generator().manual_seed(0)))))
    size, largest = replay.kept(HEAD, 0).shape[-1] // families.HEADS, 0.0
    for token in (3, 5, 7):
        layers = range(families.LAYERS)
        heads = [tuple(Override(layer, HEAD, h * size, (h + 1) * size) for h in range(families.HEADS)) for layer in layers]
        together, whole, half = (ended(sweep(replay, score, cells, token, 2)) for cells in (
            heads, [(Override(layer, ATTENTION),) for layer in layers], [one[:2] for one in heads]))
        torch.testing.assert_close(together, whole, atol=5e-6, rtol=0)
        largest = max(largest, float((together - base[1:]).abs().max()), 0)
        assert token == 3 or (half - whole).abs().max() > 1e-4
    assert largest > 1e-2


@pytest.mark.parametrize("name, layer", [("llama", 1), ("llama", -1), ("gpt2", 0), ("gpt_neox", 1), ("opt", 1), ("bloom", 0), ("gemma2", 2), ("jamba", 0)])
def test_neurons_equal_hooks_on_the_matrix_they_go_into(name, layer):
    model, token = tiny(name), 7
    answer = likely(model, PROMPT, 1)
    points = asked(NeuronTrace, model, token=token, layer=layer, answer=answer, top=12)
    assert isinstance(points, Scatter) and len(points.labels) == 12 and points.same
    hand, place = ByHand(name, model, answer, 1), layer % families.LAYERS
    _, clean = hand.run(torch.zeros(2, families.WIDTH))
    estimates = []
    for noise in hand.noise:
        grad: list[torch.Tensor] = []
        _, mine = hand.run(noise, place, token, grad=grad)
        estimates.append(((clean[place] - mine[place]) * grad[0])[token].detach())
    guess = torch.stack(estimates).mean(0).numpy()
    strongest = np.sort(np.abs(guess))[::-1]
    numbers = [int(label.split()[-1]) for label in points.labels]
    np.testing.assert_allclose(np.abs(guess[numbers]), strongest[:12], atol=1e-7)
    np.testing.assert_allclose(points.x, guess[numbers], atol=1e-7)
    expected = hand.effects(place, token, [slice(n, n + 1) for n in numbers]).mean(1)
    np.testing.assert_allclose(points.y, expected, atol=1e-7)
    assert np.abs(expected).max() > 2e-5


def test_no_more_neurons_than_there_are():
    points = asked(NeuronTrace, tiny("llama"), top=4096)
    assert len(points.labels) == len(set(points.labels)) == 2 * families.WIDTH


@pytest.mark.parametrize("name", ["llama", "jamba"])
def test_heads_and_neurons_are_run_plainly_where_nothing_else_is_right(name, monkeypatch):
    """Parts of a cell are checked as the cells of a map are."""
    model, block = tiny(name), Replay.block
    right = [asked(HeadTrace, model, token=5), asked(NeuronTrace, model, layer=0, top=4)]
    monkeypatch.setattr(Replay, "block", lambda *args, **named: block(*args, **named) + 0.3)
    heads, neurons = asked(HeadTrace, model, token=5), asked(NeuronTrace, model, layer=0, top=4)
    np.testing.assert_allclose(heads.value, right[0].value, atol=1e-6)
    np.testing.assert_allclose(neurons.y, right[1].y, atol=1e-6)


@pytest.mark.parametrize("kind", [HeadTrace, NeuronTrace])
@pytest.mark.parametrize("settings, setting", [
    ({"token": 8}, "token"), ({"token": -9}, "token"), ({"token": 2}, "token"), ({"token": -6}, "token"), ({"token": 999}, "token"),
    ({"layer": 3}, "layer"), ({"layer": -4}, "layer"), ({"subject": "Peru"}, "subject"), ({"answer": "Paris sea " * 4}, "answer")])
def test_places_that_are_not_there_are_named(kind, settings, setting):
    if not settings.keys() <= {f.name for f in fields(kind)}:
        return
    with pytest.raises(BadInput) as raised:
        asked(kind, tiny("llama"), **settings)
    assert raised.value.setting == setting and "\n" not in str(raised.value)


@pytest.mark.parametrize("kind, name, site", [(HeadTrace, "mamba", "head"), (NeuronTrace, "mamba", "neuron"), (NeuronTrace, "mixtral", "neuron")])
def test_a_model_without_such_parts_says_so(kind, name, site):
    with pytest.raises(BadInput, match=f"no single {site}") as raised:
        asked(kind, tiny(name))
    assert raised.value.setting in {"model", *(f.name for f in fields(kind))}  # a form has no other to show it at


def test_a_layer_without_neurons_is_named():
    with pytest.raises(BadInput, match="layer 1 has no single neuron") as raised:
        asked(NeuronTrace, tiny("jamba"), layer=1)  # a mixture of experts
    assert raised.value.setting == "layer"
    assert NEURON == "neuron"


def made(tokens: str, subject: tuple[int, int], layers: int, first: float = 0.0, se: float = 0.0, **changes: Any) -> TraceMap:
    """A map whose effect at token t and layer l is first + 10 t + l."""
    words = tuple(tokens.split())
    effect = first + 10.0 * np.arange(len(words))[:, None] + np.arange(layers)[None]
    blank = np.full_like(effect, np.nan)
    every: dict[str, Any] = dict(
        prompt=tokens, tokens=words, subject=subject, answer="Paris", answer_tokens=("Paris",), layers=tuple(range(layers)), effect=effect,
        effect_se=np.full_like(effect, se), clean=0.9, corrupted=0.1, corrupted_se=0.0, samples=2, noise_std=1.0, top=(), approximation=blank, pending=(),
        kind="hidden", windows=tuple((i, i + 1) for i in range(layers)), score="probability", corruption="gaussian", foil="", replaced=(),
        engine="suffix", check=0.0, cells=effect.size, filled=0, flops=1.0, loop_flops=2.0)
    return TraceMap(**every | changes)


def test_two_maps_of_one_prompt_are_subtracted_cell_by_cell():
    a, b = made("the capital of France is", (3, 4), 3, 0.0, 3.0), made("the capital of France is", (3, 4), 3, 7.0, 4.0)
    grid = difference(a, b)
    assert grid.rows == ("the", "capital", "of", "France *", "is") and grid.columns == ("0", "1", "2") and grid.diverging
    assert (grid.value == 7).all() and (grid.error == 5).all()
    assert (difference(b, a).value == -7).all()
    assert all(name in " ".join(grid.facts) for name in ("A: the capital", "B: the capital", "0.900", "0.100"))


def test_unequal_tokens_are_matched_by_their_place_about_the_subject():
    """Before: 2 and 3, so the first and the last; subject: 1 and 3, so the last; after: 3 and 2, so the first and the last."""
    a, b = made("a b S c d e", (2, 3), 2), made("f g h T U V i j", (3, 6), 2)
    grid = difference(a, b)
    assert grid.rows == ("a / f", "b / h", "S / V *", "c / i", "e / j")
    assert grid.value[:, 0].tolist() == [0, 20 - 10, 50 - 20, 60 - 30, 70 - 50]
    assert np.array_equal(grid.value[:, 0], grid.value[:, 1])


def test_a_part_that_one_prompt_has_not_has_no_cells():
    grid = difference(made("S is", (0, 1), 2), made("the S", (1, 2), 2))
    assert grid.rows == ("S *",) and grid.value.tolist() == [[10, 10]]


def test_layers_are_matched_by_their_share_of_the_depth():
    shallow, deep = made("S is", (0, 1), 3), made("S is", (0, 1), 5)
    assert difference(shallow, deep).value.tolist() == [[0, 1, 2]] * 2  # 0, 2, 4 less 0, 1, 2
    back = difference(deep, shallow)
    assert back.columns == ("0", "1", "2", "3", "4")
    assert back.value[0, [0, 2, 4]].tolist() == [0, -1, -2]


def test_what_is_not_computed_yet_has_no_difference():
    a, b = made("S is", (0, 1), 2), made("S is", (0, 1), 2)
    a.effect[1] = np.nan
    assert np.isnan(difference(a, b).value).tolist() == [[False, False], [True, True]]


@pytest.mark.parametrize("one, two, pairs", [
    (range(0), range(3), []), (range(1), range(3), [(0, 2)]), (range(2), range(4), [(0, 0), (1, 3)]), (range(3), range(5), [(0, 0), (1, 3), (2, 4)]),
    (range(5), range(3), [(0, 0), (3, 1), (4, 2)]), (range(4, 6), range(7, 9), [(4, 7), (5, 8)])])
def test_pairs_from_both_ends(one, two, pairs):
    assert matched(one, two) == pairs


@pytest.mark.parametrize("changes", [{"kind": "mlp"}, {"score": "log probability"}, {"score": "probability recovered"}])
def test_unlike_maps_are_not_subtracted(changes):
    a = made("S is", (0, 1), 2)
    with pytest.raises(BadInput, match=f"Run both with the same {next(iter(changes))}"):
        difference(a, made("S is", (0, 1), 2, **changes))
