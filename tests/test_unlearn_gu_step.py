"""Geometric disentanglement on nets and on problems that are hard for a solver: what must hold of the step that is left."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from lab.unlearn._gu import Untangled, dot, scale, solve
from tests import families
from tests._directions import projected as project
from tests._directions import slowly_projected, unit

LR = 1e-2


def problem(seed, count, size=40):
    chance = torch.Generator().manual_seed(seed)
    directions = [torch.randn(size, generator=chance, dtype=torch.float64) for _ in range(count)]
    metric = torch.rand(size, generator=chance, dtype=torch.float64) * 3 + 0.01
    return torch.randn(size, generator=chance, dtype=torch.float64), [a / a.norm() for a in directions], metric


def test_one_violated_constraint_by_hand():
    """D = (2, 1), a = (1, 0), M = (4, 1): only the first coordinate goes, and the share is sqrt(4 * 4 / (4 * 4 + 1))."""
    corrected, violated, share = project([torch.tensor([2.0, 1.0])], [[torch.tensor([1.0, 0.0])]], [torch.tensor([4.0, 1.0])])
    assert corrected[0].tolist() == pytest.approx([0.0, 1.0], abs=1e-6)
    assert violated == 1 and share == pytest.approx((16 / 17) ** 0.5, rel=1e-6)


@pytest.mark.parametrize("seed", range(12))
def test_the_conditions_of_karush_kuhn_and_tucker(seed):
    """Feasible, lam >= 0, lam_i (a_i . D') = 0, and M (D - D') = A' lam: with a convex goal these are the optimum and nothing else is."""
    update, directions, metric = problem(seed, count=2 + seed % 6)
    after = project([update], [[a] for a in directions], [metric])[0][0]
    a = torch.stack(directions)
    rises = (a @ update).numpy()
    lam = solve((a / metric @ a.T).numpy(), rises)
    assert (a @ after).max() < 1e-7 and (lam >= 0).all()
    assert np.abs(lam * (a @ after).numpy()).max() < 1e-7
    assert torch.allclose(metric * (update - after), a.T @ torch.tensor(lam), atol=1e-9)
    assert (rises > 0).any() == (not torch.equal(after, update))


@pytest.mark.parametrize("step", [1e-3, 1e-8, 1e-13])
@pytest.mark.parametrize("size", [1.0, 1e-8])
def test_small_steps_and_small_second_moments_are_solved_as_well_as_large_ones(step, size):
    update, directions, metric = problem(0, count=4)
    parts = [[a] for a in directions]
    whole, small = project([update], parts, [metric])[0][0], project([update * step], parts, [metric * size])[0][0]
    assert torch.allclose(small / step, whole, atol=1e-6)


@pytest.mark.parametrize("apart", [1e-3, 1e-6, 1e-9, 0.0])
def test_gradients_that_are_nearly_one_stay_solvable(apart):
    update, directions, metric = problem(1, count=3)
    base = directions[0] if directions[0] @ update > 0 else -directions[0]
    near = [base, *((base + apart * other) / (base + apart * other).norm() for other in directions[1:])]
    after = project([update], [[a] for a in near], [metric])[0][0]
    assert torch.isfinite(after).all() and max(float(a @ after) for a in near) < 1e-5
    assert (after * metric) @ after < (update * metric) @ update


def losses():
    """A net's parameters, and a forget and a retain loss of it; the rows begin alike, so that to forget the ones harms the others."""
    _, net = families.family("llama")
    net.requires_grad_(True)
    ids = families.prompts(4)
    ids[2:, :6] = ids[:2, :6]

    def loss(rows):
        found = net(input_ids=rows, use_cache=False).logits[:, :-1].float()
        return torch.nn.functional.cross_entropy(found.transpose(1, 2), rows[:, 1:])

    return list(net.parameters()), lambda: loss(ids[:2]), lambda: loss(ids[2:])


def ascend(lr, gu, steps=1):
    """(rise of the retain loss, rise of the forget loss, first-order rise of the retain loss in the last step) of gradient ascent."""
    parameters, forget, retain = losses()
    optimizer, wrapped = torch.optim.AdamW(parameters, lr, weight_decay=0.0), Untangled(0)
    before = [forget().item(), retain().item()]
    for _ in range(steps):
        optimizer.zero_grad()
        (-forget()).backward()
        gradients = torch.autograd.grad(retain(), parameters)
        old = [p.detach().clone() for p in parameters]
        if gu:
            wrapped.step(optimizer, parameters, gradients)
        else:
            optimizer.step()
    first = dot(unit(parameters, gradients), [p.detach() - o for p, o in zip(parameters, old, strict=True)])
    return retain().item() - before[1], forget().item() - before[0], first


def test_on_a_net_a_corrected_step_raises_the_retain_loss_by_nothing_to_first_order():
    plain, corrected = ascend(1e-4, False), ascend(1e-4, True)
    assert plain[2] > 1e-4, "gradient ascent alone goes against the retain loss"
    assert abs(corrected[2]) < 1e-3 * plain[2]
    assert abs(corrected[0]) < 0.1 * plain[0] and corrected[1] > 0


def test_on_a_net_the_retain_loss_rises_less_over_some_steps_and_the_forget_loss_still_rises():
    plain, corrected = ascend(1e-3, False, steps=5), ascend(1e-3, True, steps=5)
    assert plain[0] > 0.05 and corrected[0] < 0.5 * plain[0] and corrected[1] > 0.05


def test_a_step_that_raises_nothing_is_that_of_the_optimiser_to_the_bit():
    ours, plain = [torch.nn.Parameter(torch.tensor([1.0, 2.0, 3.0])) for _ in range(2)]
    one, two, wrapped = torch.optim.AdamW([ours], LR, weight_decay=0.0), torch.optim.AdamW([plain], LR, weight_decay=0.0), Untangled(2)
    for _ in range(3):
        ours.grad, plain.grad = (torch.tensor([0.3, -0.7, 0.1]) for _ in range(2))
        told = wrapped.step(one, [ours], [torch.tensor([0.3, -0.7, 0.1])])  # what the optimiser lowers is the retain loss itself
        two.step()
        assert told == {"violated constraints": 0.0, "share removed": 0.0} and torch.equal(ours, plain)


def test_what_no_gradient_ever_reached_stays_as_it_is():
    """Such as an expert that no token of the forget set chooses: the optimiser holds no second moment of it."""
    used, unused = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer, wrapped = torch.optim.AdamW([used, unused], LR, weight_decay=0.0), Untangled(1)
    used.grad = torch.tensor([-1.0, -1.0])
    told = wrapped.step(optimizer, [used, unused], [torch.tensor([1.0, 0.0]), torch.tensor([1.0, 0.0])])
    assert told["violated constraints"] == 1 and unused.tolist() == [1.0, 1.0]
    assert used.tolist() == pytest.approx([1.0, 1.0 + LR], abs=1e-6)


@pytest.mark.parametrize("history", [0, 1, 3])
def test_as_many_past_gradients_count_as_are_asked_for(history):
    weight = torch.nn.Parameter(torch.zeros(6))
    optimizer, wrapped = torch.optim.AdamW([weight], LR, weight_decay=0.0), Untangled(history)
    for i in range(6):
        weight.grad = -torch.ones(6)
        wrapped.step(optimizer, [weight], [torch.eye(6)[i]])
        assert sorted(wrapped.directions[0].argmax(1).tolist()) == list(range(max(0, i - history), i + 1))


def test_steps_are_those_of_directions_written_out_one_by_one():
    """What is read in one pass over each part of a net gives the steps, to rounding, that whole directions give, projected one after the other."""
    parameters, forget, retain = losses()
    optimizer, wrapped, past = torch.optim.AdamW(parameters, LR / 10, weight_decay=0.0), Untangled(3), []
    violated = 0.0
    for _ in range(8):
        optimizer.zero_grad()
        (-forget()).backward()
        gradients, old = torch.autograd.grad(retain(), parameters), [p.detach().clone() for p in parameters]
        plain = torch.optim.AdamW(copies := [torch.nn.Parameter(p.detach().clone()) for p in parameters], LR / 10, weight_decay=0.0)
        plain.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        for mine, p in zip(copies, parameters, strict=True):
            mine.grad = p.grad
        plain.step()
        past = [*past[-3:], unit(parameters, gradients)]
        update = [mine.detach() - o for mine, o in zip(copies, old, strict=True)]
        wanted, count, share = slowly_projected(update, past, [scale(plain, mine) for mine in copies])
        told = wrapped.step(optimizer, parameters, gradients)
        assert told["violated constraints"] == count and told["share removed"] == pytest.approx(share, rel=1e-4, abs=1e-6)
        for p, o, d in zip(parameters, old, wanted, strict=True):
            assert torch.allclose(p.detach(), o + d, rtol=1e-5, atol=1e-7)
        violated += count
    assert violated > 4, "else nothing was tested"
