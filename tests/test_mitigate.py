"""Mitigations of replay: what they minimise against hand-worked values and slow loops, what they may touch, and what is measured beside."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lab.data import data_for
from lab.diffusion import _quality
from lab.diffusion._ask import asked
from lab.diffusion._erase import forgetting
from lab.diffusion._goal import goals
from lab.diffusion._kept import Kept
from lab.diffusion._loss import denoising
from lab.diffusion._perturb import Milder
from lab.diffusion._sample import start
from lab.diffusion._scoreboard import REPLAY
from lab.diffusion._surrogate import Surrogates
from lab.diffusion._tune import Tuned, part_of, parts
from lab.events import Curves, Edited, Pictures, Table, Unlearning
from lab.experiment import find, read
from models import catalog
from models.errors import BadInput
from tests import painting

SHORT = {"prompts": "red apple", "seeds": 1, "steps": 2}
ROUNDS = SHORT | {"rounds": 2, "tune": 2, "batch": 2, "starts": 2, "length": 1, "beside": 1, "plain": 2, "controls": 1, "surrogate": "no text"}
STEPS = SHORT | {"length": 3, "batch": 2, "beside": 1, "plain": 2, "measure": 2}


@pytest.fixture
def ask(tiny_pipeline):
    return asked(tiny_pipeline, data_for(tiny_pipeline), "red apple\nblue cat", 0, 2, 1.0, 3)


def run(name, model, **settings):
    return list(read(find(f"diffusion.{name}"), settings).run(model, data_for(model)))


def drained(work):
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


def series(event, group, name):
    return event.value[next(i for i, (g, s) in enumerate(zip(event.groups, event.series, strict=True)) if (g, s) == (group, name))]


# ---- quality


def test_the_frechet_distance_by_hand():
    draw = torch.Generator().manual_seed(0)
    one = torch.randn(4000, 2, generator=draw)
    assert _quality.frechet(one, one) == pytest.approx(0, abs=1e-6)
    assert _quality.frechet(one + torch.tensor([3.0, 4.0]), one) == pytest.approx(25, rel=1e-4)  # a shift alone: its square
    assert _quality.frechet(3 * one, one) == pytest.approx(float((2 * one.double()).var(0).sum() + (2 * one.double()).mean(0).square().sum()), rel=1e-3)


def test_the_frechet_distance_is_that_of_scipy():
    from scipy.linalg import sqrtm

    draw = np.random.default_rng(0)
    one, two = draw.normal(size=(60, 5)) @ draw.normal(size=(5, 5)), draw.normal(size=(80, 5)) @ draw.normal(size=(5, 5)) + 1
    first, second = np.cov(one.T), np.cov(two.T)
    expected = ((one.mean(0) - two.mean(0)) ** 2).sum() + np.trace(first + second - 2 * sqrtm(first @ second).real)
    assert _quality.frechet(torch.from_numpy(one), torch.from_numpy(two)) == pytest.approx(expected, rel=1e-6)


def test_only_the_main_directions_count():
    draw = torch.Generator().manual_seed(0)
    wide = torch.randn(100, 40, generator=draw) * torch.linspace(3, 0.1, 40)
    main = torch.linalg.svd(wide.double() - wide.double().mean(0), full_matrices=False).Vh[:16]
    assert _quality.frechet(wide + main[0].float() * 2, wide) == pytest.approx(4, rel=1e-3)
    off = torch.linalg.svd(wide.double() - wide.double().mean(0), full_matrices=False).Vh[30]
    assert _quality.frechet(wide + off.float() * 2, wide) == pytest.approx(0, abs=1e-3)


def test_names_are_told_by_the_nearest_mean(tiny_pipeline, ask):
    rows = [r for r in ask.truth.of("regular") if r.file >= 0]
    from lab.diffusion._similar import floats

    real = floats(ask.truth.images[[r.file for r in rows]])
    assert _quality.namer(tiny_pipeline, rows, real)(real) == [r.name for r in rows]


def test_quality_asks_two_models_the_same(tiny_pipeline, ask):
    one, two = (drained(_quality.Examiner(tiny_pipeline, ask, 4, 0).examine(ask.net)) for _ in range(2))
    assert one == two and one.loss > 0 and one.distance > 0 and 0 <= one.named <= 1
    spoilt = Tuned(tiny_pipeline, 1e-3)
    with torch.no_grad():
        spoilt.net.denoiser.conv_out.weight.mul_(5)
    assert drained(_quality.Examiner(tiny_pipeline, ask, 4, 0).examine(spoilt.net)).loss > one.loss


# ---- training


def test_a_tuned_copy_leaves_the_model_alone_and_hands_on_what_it_trained(tiny_pipeline, ask):
    before = {n: p.clone() for n, p in tiny_pipeline.net.named_parameters()}
    chosen = parts(tiny_pipeline)["mid"]
    work = Tuned(tiny_pipeline, 1e-2, chosen)
    latents = start(ask.net, [0, 1])
    t, noise = torch.tensor([300, 700]), start(ask.net, [2, 3])
    assert work.step(denoising(work.net, latents, ask.embedding, t, noise).mean())
    made = work.frozen("tuned")
    old = dict(tiny_pipeline.net.named_parameters())
    changed = {n for n, p in made.net.named_parameters() if not torch.equal(p, before[n])}
    assert changed and changed <= set(chosen)
    assert all(torch.equal(p, before[n]) and p.grad is None and not p.requires_grad for n, p in old.items())
    names, change = work.change()
    assert names == ("mid",) and change[0] > 0
    work.restore(work.start)
    assert work.change()[1] == [0.0]


def test_parts_are_the_blocks_of_the_denoiser(tiny_pipeline):
    found = parts(tiny_pipeline)
    assert {"down 0", "down 1", "mid", "up 0", "up 1", "rest"} == set(found)
    assert sum(map(len, found.values())) == len(list(tiny_pipeline.net.denoiser.named_parameters()))
    assert part_of("denoiser.transformer_blocks.3.attn1.to_q.weight") == "block 3" and part_of("denoiser.encoder.2.up.weight") == "encoder 2"


def test_a_plain_batch_is_pictures_with_their_captions(tiny_pipeline, ask):
    kept = Kept(tiny_pipeline, ask, 0)
    drained(kept.prepare())
    assert len(kept.latents) == len(kept.embedding) == 8
    latents, embedding = kept.batch(40)
    out = 0
    for x, y in zip(latents, embedding, strict=True):
        i = int((kept.latents - x).abs().flatten(1).sum(1).argmin())
        pair = [j for j in range(8) if torch.equal(kept.latents[j], kept.latents[i])]
        blank = torch.equal(y, ask.blank[0])
        out += blank
        assert blank or any(torch.equal(y, kept.embedding[j]) for j in pair)
    assert 0 < out < 15


def test_other_memories_can_be_spared(tiny_pipeline, ask):
    kept = Kept(tiny_pipeline, ask, 0, spare=True)
    drained(kept.prepare())
    assert [c for c, _ in kept.rows[kept.plain:]] == ["old star", "bright moon", "the moon"]  # the two prompts are not
    latents, _ = kept.batch(200)
    spared = [any(torch.equal(x, y) for y in kept.latents[kept.plain:]) for x in latents]
    assert 60 < sum(spared) < 140


def test_where_no_training_picture_is_known_that_is_said(tmp_path):
    model = catalog.load(str(painting.save(tmp_path / "x", truth=False)), "cpu")
    for name in ("adversarial", "erase"):
        with pytest.raises(BadInput, match="no pictures to train on"):
            run(name, model, **(ROUNDS if name == "adversarial" else STEPS))


# ---- erasing


def test_losses_of_erasing_by_hand(tiny_pipeline, ask):
    latents, noise, t = start(ask.net, [0, 1]), start(ask.net, [2, 3]), torch.tensor([200, 800])
    with torch.no_grad():
        each = denoising(ask.net, latents, ask.embedding, t, noise)
        up, mean = forgetting("gradient ascent", ask.net, ask.net, latents, ask.embedding, t, noise, 0.1)
        same, _ = forgetting("npo", ask.net, ask.net, latents, ask.embedding, t, noise, 0.1)
        other = Tuned(tiny_pipeline, 1e-3)
        other.net.denoiser.conv_out.weight.mul_(1.5)
        gone = denoising(other.net, latents, ask.embedding, t, noise)
        found, _ = forgetting("npo", other.net, ask.net, latents, ask.embedding, t, noise, 0.1)
    assert up.item() == pytest.approx(-each.mean().item()) and mean.item() == pytest.approx(each.mean().item())
    assert same.item() == pytest.approx(20 * math.log(2), rel=1e-5)  # nothing has changed yet
    half = latents[0].numel() / 2
    expected = np.mean([-20 * math.log(1 / (1 + math.exp(-0.1 * half * float(a - b)))) for a, b in zip(gone, each, strict=True)])
    assert found.item() == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("method", ["gradient ascent", "gradient difference", "npo"])
def test_erasing_raises_the_loss_of_what_is_to_go(method, tiny_pipeline):
    events = run("erase", tiny_pipeline, **STEPS | {"method": method, "lr": 1e-3})
    last = events[-1]
    assert isinstance(last, Unlearning) and last.ended and last.step.tolist() == [0, 1, 2, 3]
    assert ("retain" in last.series) == (method != "gradient ascent")
    edited = [e for e in events if isinstance(e, Edited)]
    assert [e.step for e in edited] == [2, 3] and edited[-1].weights.parent is tiny_pipeline
    goal = goals(asked(tiny_pipeline, data_for(tiny_pipeline), "red apple", 0, 1, 1.0, 2), tiny_pipeline)[0]
    latents = goal.latent[None].expand(20, -1, -1, -1)
    t, noise = torch.linspace(100, 900, 20).long(), torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        y = asked(tiny_pipeline, data_for(tiny_pipeline), "red apple", 0, 1, 1.0, 2).embedding.expand(20, -1, -1)
        before, after = (denoising(net, latents, y, t, noise).mean() for net in (tiny_pipeline.net, edited[-1].weights.net))
    assert after > before


def test_a_rate_that_is_too_large_ends_the_run_with_its_cure(tiny_pipeline):
    last = run("erase", tiny_pipeline, **STEPS | {"method": "gradient ascent", "lr": 1.0, "length": 40, "measure": 500, "plain": 2})[-1]
    assert last.ended.startswith(("not finite", "all 40 steps")) and np.isfinite(last.change).all()


# ---- adversarial tuning


def test_rounds_search_anew_and_train(tiny_pipeline):
    events = run("adversarial", tiny_pipeline, **ROUNDS)
    last = events[-1]
    assert isinstance(last, Unlearning) and last.ended == "all 2 rounds are done"
    for name in ("its prompt", "search from the caption", "search from random", "control, from the caption", "control, from random", "other memories"):
        value = series(last, REPLAY, name)
        assert [i for i, v in zip(last.step, value, strict=True) if not np.isnan(v)] == [0, 2, 4], name
        assert np.nanmin(value) >= 0 and np.nanmax(value) <= 1
    assert {"denoising loss", "named right", "Fréchet distance"} <= set(last.groups)
    edited = [e for e in events if isinstance(e, Edited)]
    assert [e.step for e in edited] == [2, 4] and edited[0].weights.fingerprint() != edited[1].weights.fingerprint() != tiny_pipeline.fingerprint()
    assert any("6 triggers" in f for f in last.facts)  # two searches before, between and after the rounds


def test_surrogates_are_no_copies(tiny_pipeline, ask):
    work = Surrogates(tiny_pipeline, ask, goals(ask, tiny_pipeline), 0)
    drained(work.prepare(pruned=False))
    assert len(work.latents) == 2 and all(1 <= len(x) <= 8 and x.shape[1:] == ask.net.latent_shape for x in work.latents)


# ---- perturbing


def test_what_the_text_adds_is_that_of_a_slow_loop(tiny_pipeline, ask):
    latents = start(ask.net, [0, 1, 2])
    work = Milder(ask.net, ask.embedding, ask.blank, latents, 999.0, 0.05)
    with torch.no_grad():
        found = work.added(ask.embedding)
        for i in range(2):
            each = [(ask.net.noise(x[None], 999.0, ask.embedding[i : i + 1]) - ask.net.noise(x[None], 999.0, ask.blank)).norm() for x in latents]
            assert found[i].item() == pytest.approx(torch.stack(each).mean().item(), rel=1e-4)
        assert work.added(ask.blank).item() == pytest.approx(0, abs=1e-5)


def test_only_prompts_above_the_target_move_and_what_begins_them_stays(tiny_pipeline, ask):
    work = Milder(ask.net, ask.embedding, ask.blank, start(ask.net, [0, 1]), 999.0, 0.05)
    with torch.no_grad():
        low, high = sorted(work.added(ask.embedding).tolist())
    moved = int(work.added(ask.embedding).argmax())
    drained(work.step((low + high) / 2))
    assert torch.equal(work.y[1 - moved], ask.embedding[1 - moved]) and torch.equal(work.y[:, 0], ask.embedding[:, 0])
    assert not torch.equal(work.y[moved], ask.embedding[moved])
    for _ in range(5):
        drained(work.step(0.0))
    assert (work.norm[-1] < work.norm[0]).all()


@pytest.mark.parametrize("show, kind", [("pictures", Pictures), ("norm", Curves), ("table", Table)])
def test_figures_of_perturbing(show, kind, tiny_pipeline):
    last = run("perturb", tiny_pipeline, **SHORT, length=2, plain=2, show=show, target=1e-3)[-1]
    assert isinstance(last, kind) and any("memorized prompts" in f for f in last.facts)
    if show == "norm":
        assert last.lines[-1] == "target" and last.value.shape == (4, 3) and (last.value[:3, -1] < last.value[:3, 0]).all()
