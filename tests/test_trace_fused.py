"""Matrices laid out, activations in the product before them: the same numbers, only where it may be, never where a derivative or a check needs the parts."""

from __future__ import annotations

import gc
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary
from transformers.pytorch_utils import Conv1D

from lab.trace import _fused
from lab.trace._fused import LAID_OUT, fused, plainly
from tests.test_trace_families import tiny

ROWS = torch.randn(5, 7, 6, generator=torch.Generator().manual_seed(1))


class Mlp(nn.Module):
    """`odd` reads what its first matrix gives once more, so that it cannot be joined."""

    def __init__(self, approximate: str = "tanh", odd: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.up, self.down, self.act, self.odd = nn.Linear(6, 16), nn.Linear(16, 6), nn.GELU(approximate), odd

    def forward(self, rows: Tensor) -> Tensor:
        wide = self.up(rows)
        return self.down(self.act(wide) + (wide if self.odd else 0))


@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_joined_and_apart_give_the_same(approximate):
    mlp = Mlp(approximate)
    expected = mlp(ROWS).detach()
    assert "forward" in fused(mlp).up.__dict__
    with torch.no_grad():
        assert torch.equal(mlp.act(ROWS), ROWS), "the activation has nothing left to do"
        torch.testing.assert_close(mlp(ROWS), expected, rtol=0, atol=1e-6)
        with plainly():
            assert torch.equal(mlp(ROWS), expected)


def test_what_is_read_twice_is_left_apart():
    mlp = fused(Mlp(odd=True))
    assert "forward" not in mlp.act.__dict__
    with torch.no_grad():
        torch.testing.assert_close(mlp.act(ROWS), nn.functional.gelu(ROWS, approximate="tanh"))


def test_derivatives_pass_through():
    rows, apart = ROWS.clone().requires_grad_(), ROWS.clone().requires_grad_()
    fused(Mlp())(rows).square().sum().backward()
    Mlp()(apart).square().sum().backward()
    assert torch.equal(rows.grad, apart.grad)


def test_half_precision_is_left_as_it_is():
    assert "forward" not in fused(Mlp().bfloat16()).up.__dict__


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_every_matrix_of_a_private_net_is_laid_out_once_and_the_shared_model_is_left_alone(name):
    model, ids = tiny(name), torch.arange(12)[None]
    one, other = fused(model.skeleton()), fused(model.skeleton())
    matrices = [m for m in one.modules() if isinstance(m, (nn.Linear, Conv1D))]
    assert all("forward" in m.__dict__ for m in matrices)
    with torch.no_grad():
        expected = model.net(ids).logits
        for net in (one, one, other):  # the first time each matrix is compared, then it is believed
            torch.testing.assert_close(net(ids).logits, expected, atol=2e-6, rtol=0)
    assert all("forward" in m.__dict__ for m in matrices), "none gave something else"
    assert all(m.weight in LAID_OUT for m in matrices)
    assert not any("forward" in m.__dict__ for m in model.net.modules())


def test_gelu_is_joined_in_every_block_of_gpt2():
    net: Any = fused(tiny("gpt2").skeleton())
    assert all("forward" in block.mlp.act.__dict__ for block in net.transformer.h)


def test_a_matrix_that_gives_something_else_keeps_its_own_way():
    """As one whose forward does more than its class says."""
    class More(nn.Linear):
        def forward(self, rows: Tensor) -> Tensor:
            return super().forward(rows) + 1

    torch.manual_seed(0)
    parent = nn.Sequential(More(6, 4))
    expected = parent(ROWS).detach()
    fused(parent)
    with torch.no_grad():
        assert torch.equal(parent(ROWS), expected) and torch.equal(parent(ROWS), expected)
    assert "forward" not in parent[0].__dict__


def test_long_sums_are_cut_and_only_a_head_has_them(monkeypatch):
    monkeypatch.setattr(_fused, "CHAIN", 4)
    monkeypatch.setattr(_fused, "SHORT", 4)
    torch.manual_seed(0)
    square, head = nn.Linear(6, 6), nn.Linear(6, 50)
    parent = nn.Sequential(square, head)
    expected = parent(ROWS).detach()
    fused(parent)
    assert "forward" not in square.__dict__ and "forward" in head.__dict__
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(parent(ROWS), expected, rtol=0, atol=1e-6)
    assert "forward" in head.__dict__ and [part.shape[1] for part in LAID_OUT[head.weight][2]] == [3, 3]


def test_no_more_is_laid_out_than_memory_is_spared_for(monkeypatch):
    monkeypatch.setattr(_fused, "MOST", 6 * 4 * 4)
    parent = fused(nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 1)))
    assert "forward" in parent[0].__dict__ and "forward" not in parent[1].__dict__


def test_a_layout_goes_with_its_weight(monkeypatch):
    mine = WeakTensorKeyDictionary()  # its own, for those of other tests come and go
    monkeypatch.setattr(_fused, "LAID_OUT", mine)
    mlp = fused(Mlp())
    with torch.no_grad():
        mlp(ROWS)
    assert len(mine) == 2
    del mlp
    gc.collect()
    assert len(mine) == 0
