"""The share of a matrix's action that lies where the loss of general text bends least: by hand, and what must hold whatever the matrix."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from lab.data import data_for
from lab.experiment import find, read
from lab.memorization._spectrum import WIDEST, factors, general, late, spectrum, weight_of
from models import catalog

YES = torch.ones(1, 1, dtype=torch.bool)


def drawn(seed=0):
    chance = torch.Generator().manual_seed(seed)
    weight, a, g = (torch.randn(shape, generator=chance, dtype=torch.float64) for shape in ((3, 4), (9, 4), (9, 3)))
    return weight, a.T @ a, g.T @ g, torch.randn(2, 5, 4, generator=chance)


def test_a_share_by_hand():
    """A = diag(3, 1), G = diag(2, 1): curvatures 6, 2, 3 and 1 of W's entries in turn, 12 in all. To hold 0.7 of that, 8.4, it takes 6 + 3: W's first
    column. For a = (1, 2) this part of W = (1 2 / 3 4) gives (1, 3), the other (4, 8): 80 of 90. To hold 0.8, 9.6, it takes 2 too: 64 of 98."""
    weight = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64)
    found = spectrum(weight, torch.diag(torch.tensor([3.0, 1.0])).double(), torch.diag(torch.tensor([2.0, 1.0])).double(), 0.7)
    assert found.share(torch.tensor([[[1.0, 2.0]]]), YES).item() == pytest.approx(80 / 90, rel=1e-5)
    more = spectrum(weight, torch.diag(torch.tensor([3.0, 1.0])).double(), torch.diag(torch.tensor([2.0, 1.0])).double(), 0.8)
    assert more.share(torch.tensor([[[1.0, 2.0]]]), YES).item() == pytest.approx(64 / 98, rel=1e-5)
    assert found.share(torch.tensor([[[1.0, 0.0]]]), YES).item() == 0.0 and found.share(torch.tensor([[[0.0, 1.0]]]), YES).item() == 1.0


def test_the_share_of_all_directions_is_one_and_of_none_zero():
    weight, a, g, x = drawn()
    counted = torch.ones(2, 5, dtype=torch.bool)
    assert spectrum(weight, a, g, 0.0).share(x, counted).tolist() == [1.0, 1.0]
    assert spectrum(weight, a, g, 1.01).share(x, counted).tolist() == [0.0, 0.0]


def test_both_parts_add_up_to_the_matrix_and_more_mass_leaves_less_that_is_low():
    weight, a, g, x = drawn()
    for mass in (0.3, 0.6, 0.9):
        found = spectrum(weight, a, g, mass)
        whole = x @ found.basis @ (found.high + found.low).T
        torch.testing.assert_close(whole.square().sum(-1), (x @ weight.float().T).square().sum(-1), rtol=1e-4, atol=1e-5)
    left = [int((spectrum(weight, a, g, mass).low != 0).sum()) for mass in (0.0, 0.3, 0.6, 0.9)]
    assert left == sorted(left, reverse=True) and left[0] == 12


def test_neither_the_size_of_an_item_nor_tokens_that_do_not_count_change_its_share():
    weight, a, g, x = drawn()
    found, counted = spectrum(weight, a, g, 0.5), torch.tensor([[True, True, False, False, True]] * 2)
    other = x.clone()
    other[:, 2:4] = 100.0
    torch.testing.assert_close(found.share(x, counted), found.share(7 * other, counted))
    torch.testing.assert_close(found.share(x, counted), spectrum(weight, 3 * a, 5 * g, 0.5).share(x, counted))


def test_factors_are_the_sums_over_all_tokens_however_they_are_batched():
    chance = torch.Generator().manual_seed(0)
    inputs, grads = torch.randn(6, 4, 3, generator=chance), torch.randn(6, 4, 2, generator=chance)
    ids = torch.arange(6)[:, None]
    for rows in (2, 6):
        *_, last = factors(ids, lambda batch: [(inputs[batch[:, 0]], grads[batch[:, 0]])], rows)
        torch.testing.assert_close(last[0][0], torch.einsum("rti,rtj->ij", inputs.double(), inputs.double()))
        torch.testing.assert_close(last[0][1], torch.einsum("rti,rtj->ij", grads.double(), grads.double()))


def test_late_matrices_are_taken_and_wide_ones_left_out():
    assert late([nn.Linear(4, 2)] * 12) == [8, 9, 10] and late([nn.Linear(4, 2)] * 2) == [0, 1] and late([]) == []
    assert late([nn.Linear(WIDEST + 1, 1)] * 3) == []
    from transformers.pytorch_utils import Conv1D

    assert weight_of(Conv1D(2, 5)).shape == weight_of(nn.Linear(5, 2)).shape == (2, 5)


def test_the_share_on_an_organism_and_the_text_that_it_is_measured_on():
    scribe = catalog.load("scribe")
    ids = general(scribe, data_for(scribe))
    assert ids.shape == (128, 64) and ids.max() < 4096
    settings = {"items": "passage/0\npassage/99\ncanary/0", "probes": 1}
    one, two = ([*read(find("memorization.curvature"), settings).run(scribe, data_for(scribe))][-1] for _ in range(2))
    share = one.value[:, one.measures.index("low-curvature share")]
    assert ((share > 0) & (share < 1)).all() and np.array_equal(one.value, two.value)
