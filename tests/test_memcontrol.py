"""Which parts to fine-tune: the front by hand, choices that cover the denoiser, and a search that leaves the model alone."""

from __future__ import annotations

import torch

from lab.data import data_for
from lab.diffusion._memcontrol import Trial, choices, front, matched
from lab.events import Grid, Scatter, Table
from lab.experiment import find, read

QUICK = {"trials": 3, "pictures": 2, "held": 2, "tune": 2, "batch": 2, "steps": 2}


def trial(quality, memory):
    return Trial("searched", (), 1, 1e-3, quality, memory)


def test_the_front_by_hand():
    trials = [trial(1.0, 0.5), trial(0.5, 1.0), trial(1.0, 1.0), trial(0.7, 0.7), trial(1.0, 0.5), trial(2.0, 0.4)]
    assert front(trials) == [0, 1, 3, 4, 5]
    assert front([trial(1.0, 1.0)]) == [0]


def test_every_weight_of_the_denoiser_belongs_to_one_choice(tiny_pipeline):
    found = choices(tiny_pipeline)
    names = [n for part in found.values() for n in part]
    assert len(names) == len(set(names)) == len(list(tiny_pipeline.net.denoiser.named_parameters()))
    assert {"down attn2", "mid ff", "up rest", "ends"} <= set(found)


def test_random_choices_are_as_large(tiny_pipeline):
    sizes = {n: p.numel() for n, p in tiny_pipeline.net.named_parameters()}
    for size in (500, 5000, 20000):
        one, two = (matched(tiny_pipeline, size, torch.Generator().manual_seed(s)) for s in (0, 1))
        assert abs(sum(sizes[n] for n in one) - size) < 0.1 * size and one != two


def test_a_search(tiny_pipeline):
    before = tiny_pipeline.fingerprint()
    events = list(read(find("diffusion.memcontrol"), QUICK | {"show": "table"}).run(tiny_pipeline, data_for(tiny_pipeline)))
    table = events[-1]
    assert isinstance(table, Table) and table.rows[0][1] == "untouched" and table.rows[1][1] == "all parts" and table.rows[1][2] == 1
    kinds = [r[1] for r in table.rows]
    assert kinds.count("random") == sum(r[1] == "searched" and r[6] == "front" for r in table.rows)
    assert any(r[6] == "front" for r in table.rows) and len({r[4] for r in table.rows}) > 1
    del tiny_pipeline.__dict__["_digests"]
    assert tiny_pipeline.fingerprint() == before
    assert isinstance(next(e for e in reversed(events) if isinstance(e, Table)), Table)
    for show, kind in (("front", Scatter), ("parts", Grid)):
        last = list(read(find("diffusion.memcontrol"), QUICK | {"show": show, "trials": 2, "matched": False}).run(tiny_pipeline, data_for(tiny_pipeline)))[-1]
        assert isinstance(last, kind)
