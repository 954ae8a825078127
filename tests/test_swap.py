"""Conditions from elsewhere in a decoupled transformer: what is recorded and given back changes nothing, and what is swapped is what was asked."""

from __future__ import annotations

import pytest
import torch

from lab.data import data_for
from lab.diffusion._ask import asked
from lab.diffusion._sample import paint, sample, start
from lab.diffusion._swap_z import Conditioned, frozen, recorded, shared, told
from lab.events import Pictures, Table
from lab.experiment import find, read
from models import catalog
from models.errors import BadInput


@pytest.fixture
def model(tiny_ddt):
    return catalog.load(tiny_ddt, "cpu")


@pytest.fixture(params=[1.0, 2.0])
def ask(model, request):
    return asked(model, data_for(model), "red apple\ndog", 0, 2, request.param, 4)


def drawn(work, ask, way=None, prompt=0):
    work.begin(way)
    *_, last = sample(work.net, ask.embedding[prompt : prompt + 1], ask.blank, start(ask.net, ask.seeds), ask.steps, ask.guidance)
    return last.latents


def test_nothing_swapped_nothing_changed(model, ask):
    work = Conditioned(model)
    plain = drawn(work, ask)
    with torch.no_grad():
        torch.testing.assert_close(work.net.decode(plain), paint(model.net, ask.embedding[:1], ask.blank, start(ask.net, ask.seeds), 4, ask.guidance))
    assert work.step == work.read == 4 and work.cost() == pytest.approx(1)
    kept = work.kept
    torch.testing.assert_close(drawn(work, ask, recorded(kept)), plain)
    assert work.read == 0 and 0 < work.cost() < 1
    torch.testing.assert_close(drawn(work, ask, shared(work, 1)), plain)
    torch.testing.assert_close(drawn(work, ask, frozen(work, 4)), plain)
    torch.testing.assert_close(drawn(work, ask, told(work, ask.embedding[:1], range(4), ask.guidance != 1)), plain)
    assert "condition" not in vars(model.net.denoiser)


def test_a_prompt_that_is_told_is_that_prompt(model, ask):
    work = Conditioned(model)
    other = drawn(work, ask, prompt=1)
    assert not torch.allclose(other, drawn(work, ask), atol=1e-4)
    torch.testing.assert_close(drawn(work, ask, told(work, ask.embedding[1:], range(4), ask.guidance != 1)), other)


def test_shared_and_frozen_conditions_are_read_as_often_as_they_say(model, ask):
    work = Conditioned(model)
    drawn(work, ask, shared(work, 2))
    assert work.read == 2 and work.kept[0] is work.kept[1] and work.kept[2] is work.kept[3] and work.kept[1] is not work.kept[2]
    half = work.cost()
    drawn(work, ask, frozen(work, 1))
    assert work.read == 1 and all(z is work.kept[0] for z in work.kept) and work.cost() < half < 1


@pytest.mark.parametrize("show, kind", [("pictures", Pictures), ("table", Table)])
def test_figures(show, kind, model):
    last = list(read(find("diffusion.swap"), {"prompts": "red apple\nblue cat", "seeds": 2, "steps": 4, "show": show}).run(model, data_for(model)))[-1]
    assert isinstance(last, kind)
    if show == "table":
        cost = {r[0]: r[3] for r in last.rows}
        assert cost["its own z"] == pytest.approx(1) and cost["z shared by 4 steps"] < cost["z shared by 2 steps"] < 1
    else:
        assert last.frames == ("red apple", "blue cat") and last.rows[0] == "its own z" and last.image.shape[0] == 2 * 2 * len(last.rows)


def test_a_denoiser_of_one_piece_is_told(tiny_pipeline):
    with pytest.raises(BadInput, match="one piece"):
        list(read(find("diffusion.swap"), {"prompts": "red apple"}).run(tiny_pipeline, data_for(tiny_pipeline)))
