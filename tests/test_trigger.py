"""The search for triggers: gradients against a slow loop, what it may touch, and what its figures say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lab.data import data_for
from lab.diffusion._ask import asked
from lab.diffusion._goal import goals
from lab.diffusion._loss import GAMMA, denoising
from lab.diffusion._trigger import CAPTION, OTHER, RANDOM, begin
from lab.diffusion._trigger_search import Search, distances, random_starts
from lab.events import Curves, Edited, Grid, Pictures, Scatter, Table
from lab.experiment import find, read
from models import catalog
from models.errors import BadInput
from tests import painting


@pytest.fixture
def ask(tiny_pipeline):
    return asked(tiny_pipeline, data_for(tiny_pipeline), "red apple\nblue cat", 0, 2, 1.0, 3)


def run(model, **settings):
    settings = {"prompts": "red apple", "starts": 2, "length": 2, "batch": 2, "seeds": 1, "steps": 2} | settings
    return list(read(find("diffusion.trigger"), settings).run(model, data_for(model)))


def drained(work):
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


# ---- the loss


def test_the_loss_is_the_error_of_the_noise(tiny_pipeline, ask):
    net = tiny_pipeline.net
    draw = torch.Generator().manual_seed(0)
    clean, noise = (torch.randn(3, *net.latent_shape, generator=draw) for _ in range(2))
    t, y = torch.tensor([10, 500, 990]), ask.embedding[:1].expand(3, -1, -1)
    with torch.no_grad():
        found = denoising(net, clean, y, t, noise)
        for i in range(3):
            a = net.alphas[t[i]].float()
            x = a.sqrt() * clean[i] + (1 - a).sqrt() * noise[i]
            slow = (net.denoiser(x[None], t[i], y[:1]).sample[0] - noise[i]).square().mean()
            torch.testing.assert_close(found[i], slow, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("predicts", ["sample", "v_prediction"])
def test_without_noise_the_error_of_the_clean_latent_counts(predicts, tmp_path):
    model = catalog.load(str(painting.save(tmp_path / "x", truth=False, predicts=predicts)), "cpu")
    net = model.net
    draw = torch.Generator().manual_seed(0)
    clean, noise = (torch.randn(2, *net.latent_shape, generator=draw) for _ in range(2))
    t, y = torch.tensor([5, 980]), torch.zeros(2, net.tokens, painting.WIDTH)
    with torch.no_grad():
        found = denoising(net, clean, y, t, noise)
        signal, sigma = (v[:, None, None, None] for v in net.levels(t))
        guess, guessed = net.predict(signal * clean + sigma * noise, t, y)
    assert float((signal / sigma)[0].square()) > GAMMA > float((signal / sigma)[1].square())
    torch.testing.assert_close(found[0], GAMMA * (guessed - clean)[0].square().mean(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found[1], (guess - noise)[1].square().mean(), rtol=1e-3, atol=1e-5)  # the same loss where there is much noise


# ---- the search


def searching(ask, model, k=3, size=None, seed=4):
    wanted = goals(ask, model)
    latents = torch.stack([wanted[i % 2].latent for i in range(k)])
    work = Search(ask.net, latents, random_starts((k, *ask.embedding.shape[1:]), 9), seed, batch=2)
    work.size = size or work.size
    return work


def test_a_step_is_adam_on_the_gradient_of_a_slow_loop(tiny_pipeline, ask):
    work = searching(ask, tiny_pipeline)
    before = work.y.clone()
    losses = drained(work.step())
    draw = torch.Generator().manual_seed(4)
    t = torch.randint(0, 1000, (3, 2), generator=draw)
    noise = torch.randn((3, 2, *ask.net.latent_shape), generator=draw)
    for i in range(3):
        y = before[i : i + 1].clone().requires_grad_()
        each = [denoising(ask.net, work.latents[i : i + 1], y, t[i, j : j + 1], noise[i, j : j + 1]) for j in range(2)]
        loss = torch.cat(each).mean()
        loss.backward()
        torch.testing.assert_close(losses[i], loss.detach(), atol=1e-5, rtol=1e-4)
        moved = work.y[i] - before[i]  # the first step of Adam goes by the rate against the sign of the gradient
        large = y.grad[0].abs() > 1e-5
        assert large.float().mean() > 0.5
        torch.testing.assert_close(moved[large], -0.1 * y.grad[0][large].sign(), atol=1e-3, rtol=1e-3)


def test_starts_do_not_touch_each_other_nor_the_batch(tiny_pipeline, ask):
    together, apart = searching(ask, tiny_pipeline, 3, 3), searching(ask, tiny_pipeline, 3, 1)
    for work in (together, apart):
        drained(work.step())
    torch.testing.assert_close(together.y, apart.y, atol=1e-4, rtol=1e-3)
    assert not tiny_pipeline.net.denoiser.conv_in.weight.requires_grad and tiny_pipeline.net.denoiser.conv_in.weight.grad is None


def test_a_search_lowers_its_loss(tiny_pipeline, ask):
    work = searching(ask, tiny_pipeline, 2)
    clean, draw = work.latents.repeat_interleave(8, 0), torch.Generator().manual_seed(1)
    t, noise = torch.randint(200, 1000, (16,), generator=draw), torch.randn(clean.shape, generator=draw)

    def loss(y):
        with torch.no_grad():
            return float(denoising(ask.net, clean, y.repeat_interleave(8, 0), t, noise).mean())

    before = loss(work.y)
    for _ in range(15):
        drained(work.step())
    assert loss(work.y) < before - 1e-3


def test_starts_are_what_they_are_called(tiny_pipeline, ask):
    found = begin(ask, tiny_pipeline, goals(ask, tiny_pipeline), "all", 3, 0)
    assert found.goal == (0, 0, 0, 1, 1, 1) and found.kinds == (CAPTION, RANDOM, OTHER) * 2
    torch.testing.assert_close(found.embedding[0], ask.embedding[0])
    torch.testing.assert_close(found.embedding[3], ask.embedding[1])
    assert found.words[2] and found.words[2] not in ask.prompts and not found.words[0]
    assert not torch.equal(found.embedding[1], found.embedding[4])
    assert abs(float(found.embedding[1].std()) - 1) < 0.15


def test_distances_by_hand():
    one, two = torch.zeros(1, 2, 2), torch.tensor([[[3.0, 0.0], [0.0, 4.0]]])
    assert distances(one, two).item() == pytest.approx(5)


# ---- the run


def test_the_first_picture_comes_before_the_search(tiny_pipeline):
    events = run(tiny_pipeline, controls=1)
    shown = [e for e in events if isinstance(e, Pictures)]
    assert len(shown[0].image) == 1 and shown[0].frames == ("step 0",)
    last = shown[-1]
    assert last.frames == ("step 0", "step 1", "step 2") and len(last.rows) == 4
    assert last.rows[2].startswith(("dog", "fish", "tree", "sun")) and "control" in last.rows[2]
    assert any("control, from caption: " in f for f in last.facts) and any(f.startswith("from random: ") for f in last.facts)
    copies = np.array(last.score).reshape(3, 4)
    assert not np.allclose(copies[0], copies[2])


@pytest.mark.parametrize("show, kind", [("similarity", Curves), ("table", Table), ("distances", Grid), ("map", Scatter)])
def test_every_figure(show, kind, tiny_pipeline, monkeypatch):
    if show == "map":  # UMAP itself takes half a minute to start
        monkeypatch.setattr("lab.diffusion._trigger_shown.flat", lambda points, seed: points[:, :2])
    last = run(tiny_pipeline, show=show)[-1]
    assert isinstance(last, kind)
    if show == "similarity":
        assert last.lines == ("from caption", "from random", "control, from caption", "control, from random") and last.x.tolist() == [0, 1, 2]
    if show == "table":
        assert [r[1] for r in last.rows] == ["memorized", "memorized", "control", "control"] and last.rows[0][6] > 0
    if show == "map":
        assert len(last.groups) == len(last.labels) and {"memorized prompt", "plain prompt", "random"} < set(last.groups)
    if show == "distances":
        at = last.rows.index("memorized prompt")
        assert last.value[at, at] > 0, "other memories of the organism stand there too: one caption alone would have no distance"
        assert np.nanmin(last.value) > 0
        assert np.allclose(last.value, last.value.T, equal_nan=True)


def test_a_model_that_was_pruned_before_says_so(tiny_pipeline):
    model = tiny_pipeline.with_weights({}, "without some neurons")
    assert any("the model as it is (without some neurons)" in f for f in run(model, controls=0)[-1].facts)


def test_a_pruned_model_is_searched_and_handed_on(tiny_pipeline):
    for how in ("nemo", "wanda"):
        events = run(tiny_pipeline, prune=how, share=0.2, controls=0)
        edited = next(e for e in events if isinstance(e, Edited))
        assert how in edited.weights.via and edited.weights.parent is tiny_pipeline
        assert any(edited.weights.via in f for f in events[-1].facts)


def test_faults_are_named(tiny_pipeline):
    for settings, setting in (({"starts": 64, "controls": 4}, "starts"), ({"prompts": " "}, "prompts"), ({"picture": "/no/such/file"}, "picture")):
        with pytest.raises(BadInput) as raised:
            run(tiny_pipeline, **settings)
        assert raised.value.setting == setting
