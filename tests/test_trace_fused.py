"""An activation done in the product before it: the same numbers, only where it may be, and never where a derivative or a check needs the parts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lab.trace._fused import fused, plainly
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
    assert "forward" not in mlp.up.__dict__ and "forward" not in mlp.act.__dict__
    with torch.no_grad():
        torch.testing.assert_close(mlp.act(ROWS), nn.functional.gelu(ROWS, approximate="tanh"))


def test_derivatives_pass_through_the_parts():
    rows, apart = ROWS.clone().requires_grad_(), ROWS.clone().requires_grad_()
    fused(Mlp())(rows).square().sum().backward()
    Mlp()(apart).square().sum().backward()
    assert torch.equal(rows.grad, apart.grad)


def test_half_precision_is_left_apart():
    assert "forward" not in fused(Mlp().bfloat16()).up.__dict__


def test_gpt2_is_joined_in_every_block_and_the_shared_model_is_not():
    model = tiny("gpt2")
    net = fused(model.skeleton())
    joined = [m for m in net.modules() if "forward" in m.__dict__]
    assert len(joined) == 2 * model.net.config.n_layer
    assert not any("forward" in m.__dict__ for m in model.net.modules())
