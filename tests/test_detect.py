"""Scores of memorization against hand-worked values and exact derivatives, and what an organism's truth makes of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from lab.data import Data, data_for
from lab.diffusion import _scores as scores
from lab.diffusion._sample import sample, start
from lab.diffusion._told import Caption, captions, taken
from lab.events import Curves, Grid, Scatter, Table
from lab.experiment import find, read
from models.errors import BadInput
from models.pipeline import nothing, words
from tests.painting import PROMPT


def drawn(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


# ---- formulas


def test_what_the_text_adds_is_a_norm():
    one = torch.zeros(2, 1, 2, 2)
    two = one.clone()
    two[1, 0] = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    assert scores.magnitude(two, one).tolist() == [0.0, 5.0]


def test_the_end_marks_mask_weighs_places_and_not_its_own_strength():
    one, two = drawn(3, 4, 8, 8), torch.zeros(3, 4, 8, 8)
    even = torch.full((3, 8, 8), 0.3)
    torch.testing.assert_close(scores.bright(one, two, even), scores.magnitude(one, two))
    half = torch.zeros(3, 8, 8)
    half[:, :4] = 0.1
    torch.testing.assert_close(scores.bright(one, two, half), 2 * scores.magnitude(one[:, :, :4], two[:, :, :4]))


def test_equal_pictures_are_not_apart_and_all_alike():
    one = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)).expand(3, -1, -1, -1)
    assert scores.apart(one) == 0 and scores.tiles_apart(one) == 0 and scores.alike(one.flatten(1)) == pytest.approx(1)
    other = one.clone()
    other[2, :, :4, :4] += 0.5  # one tile of one picture: two of three pairs differ by .5 there
    assert scores.tiles_apart(other) == pytest.approx(2 / 3 * 0.5, abs=1e-6)
    assert scores.apart(torch.tensor([[0.0, 0.0], [3.0, 4.0]])) == pytest.approx((25 / 2) ** 0.5)
    assert scores.alike(torch.tensor([[1.0, 0.0], [0.0, 2.0], [-1.0, 0.0]])) == pytest.approx(-1 / 3)


def test_first_sight_is_nought_where_every_noise_shows_one_picture():
    signal, sigma = torch.tensor(0.6), torch.tensor(0.8)
    picture, noise = drawn(1, 4, 8, 8), drawn(3, 4, 8, 8).flip(1)
    assert scores.first_sight(signal * picture + sigma * noise, noise, signal, sigma) < 1e-5
    many = drawn(40, 4, 8, 8)  # unrelated pictures differ by the square root of two of their spread
    assert scores.first_sight(signal * many + sigma * noise[:1], noise[:1].expand(40, -1, -1, -1), signal, sigma) == pytest.approx(2**0.5, rel=0.02)


@pytest.fixture
def asked(tiny_pipeline):
    net = tiny_pipeline.net
    embedding = net.embed(words(tiny_pipeline, [PROMPT, "cat"]))
    return net, start(net, [0, 1]), embedding, nothing(tiny_pipeline).expand(2, -1, -1)


def test_sharpness_is_the_hessian_on_the_score(asked):
    net, latents, embedding, blank = asked
    t = 700.0
    sigma = net.levels(torch.tensor(t))[1]

    def score(x):
        return -(net.noise(x, t, embedding) - net.noise(x, t, blank)) / sigma

    with sdpa_kernel(SDPBackend.MATH):  # the only one with forward derivatives
        s, product = torch.func.jvp(score, (latents,), (score(latents),))
    exact = product.flatten(1).square().sum(1)
    with torch.no_grad():
        found = scores.sharpness(net, latents, t, embedding, blank, -sigma * s)
    torch.testing.assert_close(found, exact, rtol=0.05, atol=1e-6)
    assert found.min() > 0


def test_curvature_is_the_mean_eigenvalue(asked):
    net, latents, embedding, _ = asked
    t = 700.0
    sigma = net.levels(torch.tensor(t))[1]
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        one = latents[:1]
        jacobian = torch.func.jacfwd(lambda x: -net.noise(x, t, embedding[:1]) / sigma)(one).reshape(one.numel(), one.numel())
        probes = (torch.randint(0, 2, (32, *one.shape), generator=torch.Generator().manual_seed(1)) * 2 - 1).float()
        found = scores.curvature(net, one, t, embedding[:1], probes)
        exact = -jacobian.diagonal().mean()
        spread = jacobian.square().sum().sqrt() / one.numel() * (2 / 32) ** 0.5  # of Hutchinson's estimate, at most
    assert abs(float(found - exact)) < 4 * float(spread) + 1e-4
    matched = torch.stack([torch.einsum("i,ij,j->", p.flatten(), jacobian, p.flatten()) for p in probes]).mean() / one.numel()
    torch.testing.assert_close(found[0], -matched, rtol=1e-2, atol=1e-4)  # the same probes through the exact matrix


def test_one_picture_whatever_the_noise_has_the_curvature_of_the_noise_alone(asked):
    net, latents, embedding, _ = asked

    class Certain:
        levels = net.levels

        def noise(self, x, t, e):
            signal, sigma = net.levels(torch.tensor(t))
            return (x - signal * 0.3) / sigma

    sigma = net.levels(torch.tensor(500.0))[1]
    # typechecking asks for a Pipeline, so the net's own method is lent for the call
    lent = type(net).noise
    try:
        type(net).noise = lambda self, x, t, e: Certain().noise(x, t, e)
        found = scores.curvature(net, latents, 500.0, embedding, torch.ones(1, *latents.shape))
    finally:
        type(net).noise = lent
    torch.testing.assert_close(found, torch.full((2,), float(1 / sigma**2)), rtol=1e-3, atol=0)


# ---- how well a score tells


def test_told_by_hand():
    how = scores.told(np.array([3.0, 2.0, 1.0]), np.array([2.0, 0.0]))
    assert how.auc == pytest.approx((2 + 1.5 + 1) / 6) and how.at_one == pytest.approx(1 / 3) and (how.positives, how.negatives) == (3, 2)
    assert how.false.tolist() == [0, 0, 0.5, 0.5, 1] and how.true.tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1, 1])
    assert np.trapezoid(how.true, how.false) == pytest.approx(how.auc), "the area under the points, ties and all"


def test_told_at_the_ends():
    assert scores.told(np.array([2.0]), np.array([1.0])).auc == 1 and scores.told(np.array([1.0]), np.array([2.0])).auc == 0
    same = scores.told(np.ones(5), np.ones(9))
    assert same.auc == 0.5 and same.at_one == 0 and scores.told(np.array([]), np.ones(2)) is None
    rng = np.random.default_rng(0)
    how = scores.told(rng.normal(1, 1, 4000), rng.normal(0, 1, 4000))
    assert how.auc == pytest.approx(0.7602, abs=4 * how.auc_se) and 0.004 < how.auc_se < 0.007  # the normal distribution at 1 / sqrt 2
    assert how.at_one == pytest.approx(0.0923, abs=0.03)  # and at 1 - 2.326


# ---- the run


def run(model, data=None, **settings):
    return list(read(find("diffusion.detect"), {"steps": 3, "seeds": 2, "most": 3, "least": 16} | settings).run(model, data or data_for(model)))


def test_captions_are_drawn_by_what_they_are(tiny_pipeline):
    settings = read(find("diffusion.detect"), {"least": 16, "most": 50})
    found = captions(settings, tiny_pipeline, data_for(tiny_pipeline))
    by = {k: {c.text for c in found if c.label == k} for k in ("memorized", "plain", "specifying", "")}
    assert by["memorized"] == {"red apple", "blue cat", "bright moon", "the moon"} and by[""] == {"old star"} and by["plain"] == {"dog", "fish", "tree", "sun"}
    assert by["specifying"] == {"dog on red background", "fish on green background", "tree on blue background", "sun on red background",
                                "dog on blue background", "fish on red background", "tree on green background"}
    only = captions(read(find("diffusion.detect"), {"least": 16, "negatives": "plain", "most": 2}), tiny_pipeline, data_for(tiny_pipeline))
    assert {c.label for c in only} == {"memorized", "", "plain"} and sum(c.label == "plain" for c in only) == 2


def test_captions_are_drawn_evenly_over_what_they_are_of():
    every = [(Caption(f"{name} {i}", "", 1, ""), name) for name, n in (("much", 20), ("little", 1), ("some", 3)) for i in range(n)]
    for seed in range(5):
        draw = torch.Generator().manual_seed(seed)
        count = [sum(c.text.startswith(name) for c in taken(every, 6, draw)) for name in ("much", "little", "some")]
        assert count in ([3, 1, 2], [2, 1, 3]) and len(taken(every, 99, draw)) == 24


def test_the_first_score_is_what_the_sampler_sees(tiny_pipeline):
    *_, table = run(tiny_pipeline, prompts=PROMPT, show="prompts")
    assert isinstance(table, Table) and table.rows[0][:3] == (PROMPT, "unknown", None)
    net = tiny_pipeline.net
    first = next(iter(sample(net, net.embed(words(tiny_pipeline, [PROMPT])), nothing(tiny_pipeline), start(net, [0, 1]), 3, 1.5, both=True)))
    assert table.rows[0][3] == pytest.approx(float(scores.magnitude(first.with_text, first.without).mean()), rel=1e-4)


@pytest.mark.parametrize("measures", ["first step", "all"])
def test_a_prompt_scores_the_same_beside_any_other(tiny_pipeline, measures):
    alone = run(tiny_pipeline, prompts="dog", show="prompts", measures=measures)[-1].rows[0]
    beside = run(tiny_pipeline, prompts=f"{PROMPT}\ndog", show="prompts", measures=measures)[-1].rows[1]
    assert alone[:1] == beside[:1] and alone[3:] == pytest.approx(beside[3:], rel=1e-3)


def test_all_figures_come_and_the_chosen_one_last(tiny_pipeline):
    kinds = {"prompts": Table, "copies": Scatter, "roc": Curves, "auc": Grid}
    for show, kind in kinds.items():
        events = run(tiny_pipeline, show=show, most=2)
        assert isinstance(events[-1], kind) and {type(e) for e in events[-4:]} == set(kinds.values())


def test_the_course_over_steps_has_the_scores_as_its_means(tiny_pipeline):
    events = run(tiny_pipeline, show="steps", measures="all")
    curves, table = events[-1], next(e for e in events[::-1] if isinstance(e, Table))
    assert isinstance(curves, Curves) and curves.lines[0] == "memorized (3 captions)" and curves.value.shape == (3, 3)
    named = [r for r in table.rows if r[1] == "memorized"]
    assert curves.value[0].mean() == pytest.approx(np.mean([r[table.columns.index("noise, all steps")] for r in named]))
    assert curves.value[0, 0] == pytest.approx(np.mean([r[3] for r in named]))
    typed = run(tiny_pipeline, prompts="dog\nzebra", show="steps", measures="all")[-1]
    assert typed.lines == ("dog", "zebra")
    with pytest.raises(BadInput, match="only the first step is read") as raised:
        run(tiny_pipeline, show="steps")
    assert raised.value.setting == "show"


def test_the_grid_says_against_what_and_against_how_many(tiny_pipeline):
    *_, curves, grid = run(tiny_pipeline, measures="all")
    assert len(grid.columns) == 6 and grid.columns[0] == "AUC, plain" and "3 captions planted 16 times or more, 3 plain ones, 3" in grid.facts[-1]
    assert np.nanmin(grid.value) >= 0 and np.nanmax(grid.value) <= 1 and "embedder" not in grid.rows and "bright ending" in grid.rows
    assert (np.diff(curves.value, axis=1) >= 0).all() and (curves.value[:, -1] == 1).all()


def test_typed_prompts_of_the_organism_are_recognized(tiny_pipeline):
    *_, grid = run(tiny_pipeline, prompts="red apple\nBlue  cat\ndog\nfish on red background")
    assert isinstance(grid, Grid) and np.isfinite(grid.value).all()


def test_a_model_whose_training_nobody_knows(tiny_pipeline):
    with pytest.raises(BadInput, match="nobody knows what") as raised:
        run(tiny_pipeline, Data(()))
    assert raised.value.setting == "prompts"
    *_, table = run(tiny_pipeline, Data(()), prompts="dog\ncat")
    assert isinstance(table, Table) and [r[1] for r in table.rows] == ["unknown"] * 2


def test_planted_often_enough(tiny_pipeline):
    with pytest.raises(BadInput, match="planted 1000 times or more") as raised:
        run(tiny_pipeline, least=1000)
    assert raised.value.setting == "least"
