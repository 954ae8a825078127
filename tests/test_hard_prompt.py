"""Prompts of real words: the encoder that is told what it reads, gradients against differences, and what the search may use."""

from __future__ import annotations

import pytest
import torch

from lab.data import data_for
from lab.diffusion._ask import asked
from lab.diffusion._goal import goals
from lab.diffusion._hard_search import Reader, Search, typed
from lab.events import Pictures, Table
from lab.experiment import find, read
from models import catalog
from models.errors import BadInput
from models.pipeline import words
from tests import painting


@pytest.fixture
def ask(tiny_pipeline):
    return asked(tiny_pipeline, data_for(tiny_pipeline), "red apple", 0, 2, 1.0, 3)


def run(model, **settings):
    settings = {"prompts": "red apple", "length": 2, "tries": 3, "near": 4, "batch": 2, "seeds": 1, "steps": 2} | settings
    return list(read(find("diffusion.hard"), settings).run(model, data_for(model)))


def test_a_typed_prompt_reads_as_its_tokens(tiny_pipeline, ask):
    reader = Reader(tiny_pipeline, 2)
    free = torch.tensor([[painting.WORDS.index("red"), painting.WORDS.index("apple")]])
    expected = ask.net.embed(words(tiny_pipeline, ["red apple"]))
    torch.testing.assert_close(reader.read(free), expected)
    torch.testing.assert_close(reader.through(free, reader.table[free]).detach(), expected)
    torch.testing.assert_close(reader.read(free), expected)  # nothing is left behind
    assert reader.text(free[0]) == "red apple" and not tiny_pipeline.net.get_input_embeddings()._forward_hooks


def test_marks_are_not_typed(tiny_pipeline):
    found = typed(tiny_pipeline.tokenizer, len(painting.WORDS))
    assert found.tolist() == [i >= len(painting.MARKS) for i in range(len(painting.WORDS))]


def test_slopes_are_those_of_finite_differences(tiny_pipeline, ask):
    reader = Reader(tiny_pipeline, 2)
    work = Search(ask.net, reader, goals(ask, tiny_pipeline)[0].latent, [], 0, tries=2, near=2, batch=2)
    t, noise = torch.tensor([300, 800]), torch.randn(2, *ask.net.latent_shape, generator=torch.Generator().manual_seed(0))
    slopes = work.slopes(t, noise)
    here = reader.table[work.free][None]
    for place, word in ((0, 5), (1, 9)):
        way = torch.zeros_like(here)
        way[0, place] = reader.table[word] - here[0, place]
        with torch.no_grad():
            ends = [work.losses(reader.through(work.free[None], here + s * 0.02 * way), t, noise).item() for s in (-1, 1)]
        assert slopes[place, word].item() == pytest.approx((ends[1] - ends[0]) / 0.04, rel=0.05, abs=2e-5)
        assert abs(slopes[place, int(work.free[place])].item()) < 1e-6


def test_a_step_never_makes_it_worse_and_keeps_to_what_is_allowed(tiny_pipeline, ask):
    banned = [painting.WORDS.index(w) for w in ("red", "apple")]
    work = Search(ask.net, Reader(tiny_pipeline, 3), goals(ask, tiny_pipeline)[0].latent, banned, 0, tries=8, near=30, batch=3)
    for _ in range(4):
        before, state = work.free.clone(), work.draw.get_state()
        for _ in work.step():
            pass
        again = torch.Generator()
        again.set_state(state)
        t = torch.randint(0, 1000, (3,), generator=again)
        noise = torch.randn((3, *ask.net.latent_shape), generator=again)
        with torch.no_grad():
            old, new = (work.losses(work.reader.read(f[None]), t, noise).item() for f in (before, work.free))
        assert new <= old + 1e-6 and work.loss == pytest.approx(new, rel=1e-4)
        assert not set(work.free.tolist()) & {*banned, 0, 1, 2, 3} and int((work.free != before).sum()) <= 1


@pytest.mark.parametrize("show, kind", [("pictures", Pictures), ("table", Table)])
def test_figures(show, kind, tiny_pipeline):
    last = run(tiny_pipeline, show=show)[-1]
    assert isinstance(last, kind) and any("control" in f for f in last.facts)
    if show == "table":
        assert all(len(r[2].split()) == 3 and not {"red", "apple"} & set(r[2].split()) for r in last.rows if r[0] == "red apple")


def test_faults_are_named(tiny_pipeline, tmp_path):
    with pytest.raises(BadInput) as raised:
        run(tiny_pipeline, words=7)
    assert raised.value.setting == "words"
    model = catalog.load(str(painting.save(tmp_path / "xl", "xl")), "cpu")
    with pytest.raises(BadInput, match="two text encoders"):
        run(model)
