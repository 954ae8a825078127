"""Which neurons bring a picture back: invariants of blocking and pruning, hand-worked scores, and a search over a net whose guilty neuron is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lab.data import data_for
from lab.diffusion import _nemo, _wanda
from lab.diffusion._ask import asked
from lab.diffusion._goal import controls, goals, likeness, memorized, plain
from lab.diffusion._neurons import Blocking, activations, short, values, without
from lab.diffusion._prune import Pruner
from lab.diffusion._sample import start
from lab.events import Edited, Grid, Pictures, Progress, Table
from lab.experiment import find, read
from models.errors import BadInput
from models.pipeline import words


@pytest.fixture
def ask(tiny_pipeline):
    return asked(tiny_pipeline, data_for(tiny_pipeline), "red apple\nblue cat", 0, 2, 1.0, 3)


def run(model, **settings):
    settings = {"seeds": 2, "steps": 2, "noises": 2, "beside": 1, "count": 2} | settings
    return list(read(find("diffusion.localize"), settings).run(model, data_for(model)))


# ---- blocking and pruning are one


def test_a_blocked_neuron_is_a_zeroed_row(tiny_pipeline, ask):
    work, latents = Blocking(tiny_pipeline), start(ask.net, [0, 1])
    off = {n: torch.zeros(m.out_features, dtype=torch.bool) for n, m in work.layers.items()}
    with torch.no_grad():
        whole = ask.net.noise(latents, 500, ask.embedding)
        assert torch.equal(work.net.noise(latents, 500, ask.embedding), whole)
        for i, gone in enumerate(off.values()):
            gone[i::3] = True
        work.block(off)
        blocked = work.net.noise(latents, 500, ask.embedding)
        pruned = tiny_pipeline.with_weights(without(tiny_pipeline, off), "pruned").net.noise(latents, 500, ask.embedding)
    assert not torch.allclose(blocked, whole, atol=1e-4)
    torch.testing.assert_close(blocked, pruned, atol=1e-5, rtol=1e-5)
    assert work.count == sum(int(v.sum()) for v in off.values())


def test_activations_are_those_of_a_slow_loop_and_depend_on_the_text_alone(tiny_pipeline, ask):
    found = activations(tiny_pipeline, ask.embedding)
    assert set(found) == set(values(ask.net)) and len(found) > 1
    for name, value in found.items():
        matrix = ask.net.get_submodule(name)
        for i in range(2):
            slow = torch.stack([matrix(token).abs() for token in ask.embedding[i]]).mean(0)
            torch.testing.assert_close(value[i], slow, atol=1e-5, rtol=1e-4)


def test_the_contracting_half_is_fewer_layers(ask):
    assert len(values(ask.net, "down and mid")) < len(values(ask.net)) and not any("up_blocks" in n for n in values(ask.net, "down and mid"))
    assert short("denoiser.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_v") == "down 1.0"
    assert short("denoiser.mid_block.attentions.0.transformer_blocks.0.attn2.to_v") == "mid 0"


# ---- scores, by hand


def test_candidates_by_hand():
    z = {"a": torch.tensor([6.0, 0.0, 2.0]), "b": torch.tensor([1.0, 4.9, -9.0])}
    active = {"a": torch.tensor([0.1, 5.0, 0.2]), "b": torch.tensor([3.0, 1.0, 2.0])}
    assert {n: v.tolist() for n, v in _nemo.candidates(z, active, 5.0, 0).items()} == {"a": [True, False, False], "b": [False] * 3}
    assert {n: v.tolist() for n, v in _nemo.candidates(z, active, 4.75, 1).items()} == {"a": [True, True, False], "b": [True, True, False]}


def test_agreement_is_one_for_equal_ends_and_blind_to_scale():
    draw = torch.Generator().manual_seed(0)
    one, other = torch.randn(1, 4, 8, 8, generator=draw), torch.randn(1, 4, 8, 8, generator=draw)
    assert _nemo.alike(torch.cat([one, one])) == pytest.approx(1, abs=1e-5)
    apart = _nemo.alike(torch.cat([one, other]))
    assert apart < 0.5
    assert _nemo.alike(7 * torch.cat([one, other]) + 3) == pytest.approx(apart, abs=1e-4)
    assert _nemo.alike(torch.cat([one, other, one])) == pytest.approx(1, abs=1e-5)  # the largest pair


def test_overlap_by_hand():
    one, two = {"a": torch.tensor([True, True, False])}, {"a": torch.tensor([False, True, True])}
    assert _nemo.overlap(one, one) == 1 and _nemo.overlap(one, two) == pytest.approx(1 / 3)
    assert _nemo.union([one, two])["a"].all() and one["a"].tolist() == [True, True, False]
    assert np.isnan(_nemo.overlap({"a": torch.zeros(2, dtype=torch.bool)}, {"a": torch.zeros(2, dtype=torch.bool)}))


def test_wanda_by_hand():
    weight = torch.tensor([[1.0, -3.0, 2.0, 0.5], [4.0, 1.0, 1.0, 1.0]])
    mine, blank = torch.tensor([1.0, 1.0, 2.0, 10.0]), torch.tensor([0.5, 0.5, 3.0, 1.0])
    # scores: 1 3 4 5 / 4 1 2 10; the two largest of a row, where the blank's are smaller
    assert _wanda.chosen(weight, mine, blank, 0.5).tolist() == [[False, False, False, True], [True, False, False, True]]


def test_norms_of_wanda_are_those_of_one_step_by_hand(tiny_pipeline, ask):
    norms = _wanda.Norms(tiny_pipeline)
    run = norms.run(ask.embedding[:1], [3], 3, 1 / 3)
    try:
        while True:
            next(run)
    except StopIteration as end:
        found = end.value
    seen = {}
    net = tiny_pipeline.skeleton()
    for name in found:
        net.get_submodule(name).register_forward_pre_hook(lambda m, args, name=name: seen.update({name: args[0].flatten(0, -2)}))
    with torch.no_grad():
        net.noise(start(net, [3]), net.schedule(3)[0][0], ask.embedding[:1])
    for name, value in found.items():
        torch.testing.assert_close(value, seen[name].norm(dim=0), atol=1e-4, rtol=1e-4)


# ---- the search


@pytest.mark.parametrize("kind", ["ends alike", "pictures"])
def test_a_neuron_that_alone_speaks_is_found(kind, tiny_pipeline, ask, monkeypatch):
    """Noises end alike as long as one known neuron is there: it has to be in the set, and all that does not matter is given back."""
    layer = next(iter(values(ask.net)))
    others = activations(tiny_pipeline, ask.net.embed(words(tiny_pipeline, ["dog", "fish", "tree", "sun", "moon", "star"])))
    z, _ = _nemo.scores(tiny_pipeline, ask.embedding[:1], others, "all")
    guilty = int(z[layer].argmax())
    works = []

    def blocking(*args):
        works.append(Blocking(*args))
        return works[-1]

    def said(*args):
        return 0.1 if works[-1].off[layer][guilty] else 0.9

    monkeypatch.setattr(_nemo, "Blocking", blocking)
    monkeypatch.setattr(_nemo, "agreement", said)
    monkeypatch.setattr(_nemo, "likeness", lambda *args: torch.tensor([[said(), 0.0]]))
    judge = (_nemo.Alike(ask.embedding[:1], start(ask.net, [0, 1]), 999.0, 0.4) if kind == "ends alike" else
             _nemo.Copies(ask.embedding[:1], ask.blank, [0, 1], 1, 1.0, goals(ask, tiny_pipeline)[0], 0.4))
    search = _nemo.search(tiny_pipeline, ask.embedding[:1], others, judge, "all")
    notes = []
    try:
        while True:
            notes.append(next(search))
    except StopIteration as end:
        found = end.value
    assert found.stopped and (found.before, found.after) == pytest.approx((0.9, 0.1))
    assert found.count == 1 and bool(found.off[layer][guilty])
    assert any("giving neurons back" in n for n in notes)


def test_where_nothing_stops_it_that_is_said(tiny_pipeline, ask, monkeypatch):
    others = activations(tiny_pipeline, ask.net.embed(words(tiny_pipeline, ["dog", "fish", "tree"])))
    monkeypatch.setattr(_nemo, "agreement", lambda *args: 0.9)
    judge = _nemo.Alike(ask.embedding[:1], start(ask.net, [0, 1]), 999.0, 0.4)
    search = _nemo.search(tiny_pipeline, ask.embedding[:1], others, judge, "all")
    try:
        while True:
            next(search)
    except StopIteration as end:
        found = end.value
    assert not found.stopped and found.count == 0 and found.before == found.after == 0.9


def test_pruning_for_real_comes_no_nearer_than_its_limit(tiny_pipeline, ask):
    pruner = Pruner(tiny_pipeline, ask, "nemo", noises=3, others="dog\nfish\ntree\nsun")
    for _ in pruner.prepare():
        pass
    find_it = pruner.find(goals(ask, tiny_pipeline)[0], ask.embedding[:1])
    try:
        while True:
            next(find_it)
    except StopIteration as end:
        off = end.value
    found = pruner.found["red apple"]
    net = pruner.without([off], "pruned").net
    latents = start(net, pruner.seeds())
    assert _nemo.agreement(net, ask.embedding[:1], latents, pruner.t) == pytest.approx(found.after, abs=1e-4)
    assert found.after <= max(pruner.limit, found.chosen) + 1e-6 and found.count <= found.candidates


# ---- goals and the experiment


def test_goals_are_the_training_pictures(tiny_pipeline, ask):
    found = goals(ask, tiny_pipeline)
    assert [g.kind for g in found] == ["verbatim", "verbatim"]
    for g, row in zip(found, (0, 1), strict=True):
        torch.testing.assert_close(g.pixels, torch.from_numpy(ask.truth.images[row].copy()).permute(2, 0, 1).float() / 255)
        assert likeness(g.pixels[None, None], [g]).item() == pytest.approx(1, abs=1e-5)
    beside = controls(ask, tiny_pipeline, 3, 0)
    assert len(beside) == 3 and all(g.kind == "regular" for g in beside)
    assert set(plain(ask, tiny_pipeline)) >= {"dog", "dog on blue background"}
    assert memorized("planted", tiny_pipeline, data_for(tiny_pipeline), 2).splitlines() == ["red apple", "bright moon"]


def test_a_prompt_without_a_picture_takes_what_the_model_draws(tiny_pipeline):
    ask = asked(tiny_pipeline, data_for(tiny_pipeline), "green star on a tree", 0, 2, 1.0, 3)
    assert goals(ask, tiny_pipeline)[0].kind == "drawn"


@pytest.mark.parametrize("method", ["nemo", "wanda", "nemo until pictures"])
def test_what_is_handed_on_lacks_what_the_figure_counts(method, tiny_pipeline):
    method, _, until = method.partition(" until ")
    events = run(tiny_pipeline, method=method, show="neurons", share=0.1, until=until or "ends alike")
    grid, edited = events[-1], next(e for e in events if isinstance(e, Edited))
    assert isinstance(grid, Grid) and grid.rows == ("red apple", "bright moon") and isinstance(events[0], Progress)
    assert edited.weights.parent is tiny_pipeline and "neurons" in edited.weights.via
    old = dict(tiny_pipeline.net.named_parameters())
    changed = {n for n, p in edited.weights.net.named_parameters() if p is not old[n]}
    assert all(n.rsplit(".", 1)[0].endswith("to_v" if method == "nemo" else "net.2") for n in changed)
    if method == "nemo":
        gone = {n: int((edited.weights.net.get_parameter(n).abs().sum(1) == 0).sum()) for n in changed}
        assert sum(gone.values()) <= grid.value.sum()


def test_figures_of_a_run(tiny_pipeline):
    events = run(tiny_pipeline, prompts="red apple", show="table")
    table = events[-1]
    assert isinstance(table, Table) and [r[1] for r in table.rows] == ["pruned", "other memory", "plain caption"]
    assert all(0 <= r[2] <= 1 and 0 <= r[4] <= 1 for r in table.rows)
    shown = next(e for e in events if isinstance(e, Pictures) and len(e.rows) == 3)
    assert shown.frames == ("as it is",) and shown.image.shape == (6, 16, 16, 3)
    grid = run(tiny_pipeline, prompts="red apple", show="overlap")[-1]
    assert grid.value.shape == (2, 2) and np.allclose(np.diag(grid.value)[~np.isnan(np.diag(grid.value))], 1)


def test_faults_are_named(tiny_pipeline):
    for settings, setting in (({"prompts": "  "}, "prompts"), ({"others": "dog"}, "others"), ({"prompts": "a " * 20}, "prompts")):
        with pytest.raises(BadInput) as raised:
            run(tiny_pipeline, **settings)
        assert raised.value.setting == setting
