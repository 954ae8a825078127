"""How often a picture comes back: counted by hand, and with a model that copies on purpose."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lab.data import Data, data_for
from lab.diffusion._replay import Counted, grouped, guidances
from lab.diffusion._similar import floats
from lab.diffusion._told import Caption
from lab.diffusion._training import truth
from lab.events import Curves, Grid, Progress
from lab.experiment import find, read
from models.errors import BadInput


def run(model, data=None, **settings):
    events = read(find("diffusion.replay"), {"steps": 2, "guidances": "1, 2"} | settings).run(model, data or data_for(model))
    return [e for e in events if not isinstance(e, Progress)]


def test_guidances_are_read():
    assert guidances("1, 2.5;4,2.5") == (1.0, 2.5, 4.0)
    for text, said in (("1, two", "'two' is no number"), ("", "'' is no number"), ("nan", "out of its bounds"), ("31", "out of its bounds"), ("-1", "out of"),
                       (",".join(map(str, range(13))), "13 guidances")):
        with pytest.raises(BadInput, match=said) as raised:
            guidances(text)
        assert raised.value.setting == "guidances"


def test_captions_stand_in_groups_each_once(tiny_pipeline):
    groups = grouped(read(find("diffusion.replay"), {"most": 50}), truth(tiny_pipeline, data_for(tiny_pipeline)))
    assert list(groups) == ["1 copies", "16 copies", "64 copies", "many captions", "augmented, name", "augmented, name and ground", "never trained"]
    texts = [c.text for some in groups.values() for c in some]
    assert len(texts) == len(set(texts)) == 16 and [c.text for c in groups["many captions"]] == ["bright moon", "the moon"]


def test_rates_and_errors_by_hand():
    settings = read(find("diffusion.replay"), {})
    one, two = Caption("a", "", 4, "verbatim"), Caption("b", "", 0, "held")
    counted = Counted(settings, 2, 5, {"4 copies": [one, one, one], "never trained": [two]}, (1.0, 3.0), 0.6)
    counted.add(0, [(0, 0), (0, 1), (1, 0), (2, 0), (2, 1), (3, 0)], np.array([0.9, 0.1, 0.7, 0.2, 0.6, 0.1]))
    mean, error = counted.rates()
    assert mean[0, 0] == pytest.approx((0.5 + 1 + 0) / 3) and error[0, 0] == pytest.approx(0.5 / 3**0.5) and mean[1, 0] == 0 and np.isnan(error[1, 0])
    assert np.isnan(mean[:, 1]).all()
    curve = counted.curves("copies")
    assert "mean SSIM with the nearest, over guidances: 4 copies 0.50, never trained 0.10" in curve.facts
    assert curve.x.tolist() == [2.0] and curve.value.shape == (2, 1) and "never trained (1): 0.00, nan at guidance 1, 3" in curve.facts
    assert counted.curves("guidance").value.shape == counted.grid().value.shape == (2, 2)


def test_what_the_model_draws_is_what_is_counted(tiny_pipeline, monkeypatch):
    """A decoder that gives a training picture where the first noise was drawn, and another picture else: half of all are copies."""
    known = floats(truth(tiny_pipeline, data_for(tiny_pipeline)).images)
    net = tiny_pipeline.net
    count = iter(range(10**6))

    def decode(self, latents):
        return torch.stack([known[0] if next(count) % 2 == 0 else 1 - known[0] for _ in latents])

    monkeypatch.setattr(type(net), "decode", decode)
    *_, grid = run(tiny_pipeline, over="both", seeds=2, most=2)
    assert isinstance(grid, Grid) and grid.value.shape == (7, 2) and (grid.value == 0.5).all() and np.nanmax(grid.error) == 0


@pytest.mark.parametrize("over, lines", [("copies", 2), ("guidance", 7)])
def test_the_figure_grows_and_ends_full(tiny_pipeline, over, lines, monkeypatch):
    monkeypatch.setattr("lab.diffusion._sample.CPU", 4.1 * 64 * sum(p.numel() for p in tiny_pipeline.net.denoiser.parameters()))
    events = run(tiny_pipeline, over=over, most=1)
    curves = [e for e in events if isinstance(e, Curves)]
    gaps = [int(np.isnan(e.value).sum()) for e in curves]
    assert gaps == sorted(gaps, reverse=True) and gaps[0] > 0 == gaps[-1] and len(curves[-1].lines) == lines and isinstance(events[-1], Curves)


def test_only_what_is_known_can_be_counted(tiny_pipeline):
    with pytest.raises(BadInput, match="nobody knows what"):
        run(tiny_pipeline, Data(()))
