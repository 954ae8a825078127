"""Estimates of curvature against exact Hessians, and the Fisher information against autograd."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from lab.data import data_for
from lab.events import Survey
from lab.experiment import find, read
from lab.memorization._bend import Matrices, bend, output_noise, signs
from lab.memorization._curvature import Gauge
from lab.memorization._rows import Row
from lab.trace._sites import NEURON, anatomy
from models import catalog
from models.model import Model, blocks
from tests import families


def gradient_of(loss):
    """Gradients of a loss of (rows, tokens, width) whose rows do not touch."""
    return torch.func.vmap(torch.func.grad(loss))


def test_the_trace_of_a_quadratic_is_exact_for_every_direction_where_it_is_diagonal():
    diagonal = torch.tensor([[1.0, -2.0, 4.0], [0.5, 3.0, -1.0]])
    x = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(0))
    for seed in range(4):
        v = signs(x.shape, torch.Generator().manual_seed(seed))
        trace, square = bend(gradient_of(lambda y: (diagonal * y * y).sum() / 2), x, v, 0.01)
        np.testing.assert_allclose(trace, float(diagonal.sum()), rtol=1e-3)
        np.testing.assert_allclose(square, float(diagonal.square().sum()), rtol=1e-3)


def test_the_mean_over_all_signs_is_the_exact_trace_of_a_curved_loss():
    weights = torch.randn(4, 4, generator=torch.Generator().manual_seed(1)).double()

    def loss(y):
        return torch.logsumexp(weights @ y.flatten(), 0) + (y.flatten()[0] * y.flatten()[3]).sin()

    x = torch.randn(1, 2, 2, generator=torch.Generator().manual_seed(2)).double()
    hessian = torch.autograd.functional.hessian(loss, x[0]).reshape(4, 4)
    every = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0]).double()] * 4).reshape(16, 2, 2)
    trace, square = bend(gradient_of(loss), x.expand(16, -1, -1), every, 1e-4)
    assert trace.mean() == pytest.approx(float(hessian.trace()), rel=1e-5)
    assert square.mean() == pytest.approx(float((hessian @ hessian).trace()), rel=1e-5)


def test_output_noise_has_the_covariance_of_a_softmax():
    logits = torch.tensor([[2.0, 0.0, -1.0]])
    p = logits.softmax(-1)[0]
    every = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3)
    noise = output_noise(logits.expand(8, -1), every)
    torch.testing.assert_close(noise.T @ noise / 8, p.diag() - torch.outer(p, p))


def test_squares_are_those_of_gradients_written_out():
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).requires_grad_(False)
    keep = Matrices([net[0], net[2]])
    x = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    found = keep.squares(net(x).square().sum())
    for row in range(2):
        weights = {n: p.clone().requires_grad_() for n, p in net.named_parameters() if n.endswith("weight")}
        loss = torch.func.functional_call(net, weights, (x[row].detach(),)).square().sum()
        expected = sum(g.square().sum() for g in torch.autograd.grad(loss, list(weights.values())))
        assert found[row] == pytest.approx(float(expected), rel=1e-4)


def exact(model, row):
    """(tr H, tr HH, Fisher trace a token, squared gradient norm) of one row, by double backward and by summing over every next token."""
    net, ids, start = model.net, torch.tensor([row.ids]), row.start
    table = net.get_input_embeddings()

    def loss(x):
        return nn.functional.cross_entropy(net(inputs_embeds=x).logits[0, start - 1 : -1], ids[0, start:])

    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        x = table(ids)
        hessian = torch.autograd.functional.hessian(loss, x).reshape(x.numel(), x.numel())
    names = [n for n, m in net.named_modules() if any(m is anatomy(b, net.config.hidden_size)[NEURON] for b in blocks(net))]
    weights = {f"{n}.weight": net.get_parameter(f"{n}.weight").clone().requires_grad_() for n in names}
    log_probs = torch.func.functional_call(net, weights, kwargs={"input_ids": ids}).logits[0, start - 1 : -1].log_softmax(-1)

    def square(value):
        return float(sum(g.square().sum() for g in torch.autograd.grad(value, list(weights.values()), retain_graph=True)))

    fisher = sum(math.exp(float(p)) * square(p) for t in log_probs for p in t) / len(log_probs)
    actual = square(-log_probs.gather(1, ids[0, start:, None]).mean())
    return float(hessian.trace()), float((hessian @ hessian).trace()), fisher, actual


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_the_gauge_meets_the_exact_values_of_a_small_net(name):
    model = Model(name, families.family(name)[1], families.tokenizer())
    row = Row((5, 9, 30, 12, 7), 3)
    expected = exact(model, row)
    draws = {n: [] for n in ("input curvature", "squared input curvature", "Fisher trace")}
    gauge = Gauge(model, 0.003, 1, torch.Generator().manual_seed(0))
    for _ in range(60):
        *_, found = gauge.measure([row] * 8)
        for key, values in draws.items():
            values.append(found[key])
    for key, truth in zip(draws, expected, strict=False):
        each = np.concatenate(draws[key])
        error = each.std() / math.sqrt(len(each))
        assert abs(each.mean() - truth) < 4 * error, (key, each.mean(), truth, error)
        assert error < 0.2 * abs(truth) + 0.02, "too few draws to tell"
    np.testing.assert_allclose(found["gradient norm"], expected[3], rtol=1e-3)


def test_a_row_bends_alike_alone_and_beside_others():
    model = Model("llama", families.family("llama")[1], families.tokenizer())
    rows = [Row((5, 9, 30, 12, 7), 3), Row((8, 40, 11, 4, 22), 2)]
    *_, both = Gauge(model, 0.003, 1, torch.Generator().manual_seed(0)).measure(rows)
    *_, first = Gauge(model, 0.003, 1, torch.Generator().manual_seed(0)).measure(rows[:1])
    for key in ("input curvature", "squared input curvature", "gradient norm"):  # the first row draws the same signs in both
        assert both[key][0] == pytest.approx(first[key][0], rel=1e-2)


def test_nets_without_a_matrix_of_neurons_keep_their_input_curvature(data):
    model = Model("qwen3_moe", families.family("qwen3_moe")[1], families.tokenizer())
    *_, last = read(find("memorization.curvature"), {"items": "the capital of France is Paris", "probes": 1}).run(model, data)
    assert last.measures == ("input curvature", "squared input curvature") and np.isfinite(last.value).all()


def test_the_survey_of_curvature_on_an_organism():
    scribe = catalog.load("scribe")
    surveys = [e for e in read(find("memorization.curvature"), {"items": "passage/0\npassage/99\ncanary/0", "probes": 2}).run(scribe, data_for(scribe))
               if isinstance(e, Survey)]
    last = surveys[-1]
    assert len(surveys) == 2 and np.isnan(surveys[0].value).any() and np.isfinite(last.value).all()
    assert {"input curvature", "Fisher trace"} < set(last.measures) and (last.value[:, 1:] > 0).all()
