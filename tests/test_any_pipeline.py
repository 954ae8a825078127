"""Every experiment that needs no manifest, on every kind of pipeline that is read from a folder, and with weights outside the device."""

from __future__ import annotations

import numpy as np
import pytest

from lab.data import data_for
from lab.events import Progress
from lab.experiment import find, read
from models import catalog, pipelines
from tests import painting
from tests.painting import PROMPT

RUNS = {"generate": {"prompts": f"{PROMPT}\ncat", "seeds": 2, "guidance": 2.0}, "maps": {"prompt": PROMPT, "layers": "each"},
        "words": {"prompt": PROMPT, "seeds": 2}, "detect": {"prompts": f"{PROMPT}\ncat", "seeds": 2, "measures": "all", "show": "prompts"}}


def result(name, model):
    *_, last = [e for e in read(find(f"diffusion.{name}"), RUNS[name] | {"steps": 2}).run(model, data_for(model)) if not isinstance(e, Progress)]
    return last


@pytest.mark.parametrize("kind", ["sd", "xl", "pixart", "ddt"])
def test_every_experiment_runs_on_every_kind_of_pipeline(kind, tmp_path):
    model = catalog.load(str(painting.save(tmp_path / kind, kind, truth=False)), "cpu")
    pictures, maps, words, detect = (result(name, model) for name in RUNS)
    assert pictures.image.shape == (8, 16, 16, 3) and pictures.image.std() > 1 and "nobody knows" in pictures.facts[-1]
    assert maps.columns[1:] == ("<s>", *PROMPT.split(), "</s>") and np.nanmax(maps.score) <= 1
    assert words.value.shape == (3, 7) and (words.value[:2].sum(1) <= 1 + 1e-9).all() and (words.value[:2] > 0).all()
    assert np.isfinite(np.array([row[3:] for row in detect.rows], float)).all() and len(detect.rows[0]) == 3 + 8


def test_weights_outside_the_device_give_the_same_figures(tmp_path, monkeypatch):
    folder = painting.save(tmp_path / "sd", truth=False)
    plain = catalog.load(str(folder), "cpu")
    monkeypatch.setattr(pipelines, "_place", lambda size, device: (device, True))
    moved = pipelines.load(folder, "cpu")
    assert np.abs(result("generate", plain).image.astype(int) - result("generate", moved).image).max() <= 1
    one, two = (result("maps", m).score for m in (plain, moved))
    assert np.allclose(one, two, atol=1e-5, equal_nan=True)
    one, two = (np.array([row[3:] for row in result("detect", m).rows], float) for m in (plain, moved))
    assert np.allclose(one, two, rtol=1e-3, atol=1e-5)
