"""Geometric disentanglement: the nearest step that raises no retain loss to first order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from lab.unlearn._gu import Untangled, dot, scale
from tests._directions import projected as project


def test_a_step_in_the_plane_by_hand():
    update, directions, metric = [torch.tensor([1.0, 1.0])], [[torch.tensor([1.0, 0.0])]], [torch.ones(2)]
    corrected, violated, share = project(update, directions, metric)
    assert corrected[0].tolist() == pytest.approx([0.0, 1.0], abs=1e-6) and violated == 1 and share == pytest.approx(0.5**0.5, rel=1e-5)
    slanted = project([torch.tensor([1.0, 1.0])], [[torch.tensor([0.6, 0.8])]], [torch.tensor([1.0, 4.0])])[0][0]
    lam = 1.4 / (0.36 + 0.64 / 4)
    assert slanted.tolist() == pytest.approx([1 - 0.6 * lam, 1 - 0.8 * lam / 4], rel=1e-5), "M^-1 a is what is taken away"


def test_a_step_that_raises_nothing_stays_to_the_bit():
    update = [torch.tensor([-0.3, 0.7])]
    corrected, violated, share = project(update, [[torch.tensor([1.0, 0.0])]], [torch.ones(2)])
    assert torch.equal(corrected[0], update[0]) and violated == 0 and share == 0.0


@pytest.mark.parametrize("seed", range(6))
def test_the_conditions_of_the_optimum_and_a_slow_solver(seed):
    chance = np.random.default_rng(seed)
    size, count = 12, 5
    d, a, m = chance.normal(size=size), chance.normal(size=(count, size)), chance.uniform(0.1, 3, size)
    a /= np.linalg.norm(a, axis=1, keepdims=True)
    parts = [slice(0, 5), slice(5, 12)]
    split = lambda v: [torch.tensor(v[p]) for p in parts]  # noqa: E731
    corrected, violated, share = project(split(d), [split(row) for row in a], split(m))
    found = torch.cat(corrected).numpy()
    assert violated == int((a @ d > 0).sum()) and (a @ found < 1e-6).all()
    slow = minimize(lambda x: 0.5 * ((x - d) ** 2 * m).sum(), np.zeros(size), jac=lambda x: (x - d) * m,
                    constraints={"type": "ineq", "fun": lambda x: -a @ x, "jac": lambda x: -a}, method="SLSQP", options={"ftol": 1e-12, "maxiter": 500})
    assert found == pytest.approx(slow.x, abs=1e-4)
    assert share == pytest.approx(np.sqrt(((found - d) ** 2 * m).sum() / (d**2 * m).sum()), abs=1e-6)


def test_gradients_of_one_direction_stay_solvable():
    a = torch.tensor([0.6, 0.8], dtype=torch.float64)
    update, metric = [torch.tensor([2.0, 1.0], dtype=torch.float64)], [torch.ones(2, dtype=torch.float64)]
    corrected, violated, _ = project(update, [[a], [a.clone()], [a * (1 - 1e-9)]], metric)
    assert violated == 3 and abs(dot([a], corrected)) < 1e-6


def test_a_step_of_the_optimiser_is_corrected_in_place_and_past_gradients_count():
    weight = torch.nn.Parameter(torch.tensor([1.0, 1.0]))
    optimizer, wrapped = torch.optim.AdamW([weight], 0.1, weight_decay=0.0), Untangled(history=1)
    before = weight.detach().clone()
    weight.grad = torch.tensor([-1.0, -1.0])  # the optimiser wants both weights up
    told = wrapped.step(optimizer, [weight], [torch.tensor([5.0, 0.0])])  # and the retain loss rises with the first
    assert told["violated constraints"] == 1 and weight[0].item() == pytest.approx(1.0, abs=1e-5) and weight[1].item() > 1.05
    now = weight.detach().clone()
    weight.grad = torch.tensor([-1.0, -1.0])
    wrapped.step(optimizer, [weight], [torch.tensor([0.0, 1.0])])
    assert weight.tolist() == pytest.approx(now.tolist(), abs=1e-5), "the past gradient still holds the first weight, the present one the second"
    assert len(wrapped.directions[0]) == 2 and not torch.equal(now, before)
    none = Untangled(0)
    none.add([weight], [None])
    assert none.directions[0].tolist() == [[0.0, 0.0]]


def test_the_metric_is_the_root_of_the_corrected_second_moment_by_hand():
    weight = torch.nn.Parameter(torch.zeros(2))
    optimizer = torch.optim.AdamW([weight], 0.1, weight_decay=0.0)
    for gradient in ([2.0, 0.5], [4.0, 0.0]):
        weight.grad = torch.tensor(gradient)
        optimizer.step()
    second = [(0.001 * (0.999 * a**2 + b**2)) / (1 - 0.999**2) for a, b in ((2.0, 4.0), (0.5, 0.0))]
    assert scale(optimizer, weight).tolist() == pytest.approx([v**0.5 + 1e-8 for v in second], rel=1e-4)
