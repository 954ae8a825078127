"""A GPU gives what a processor gives, and nobody's weights change on it either. Skipped where there is none."""

from __future__ import annotations

import gc
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch

from lab.data import data_for
from lab.events import LIVE
from lab.experiment import find, read
from models import catalog

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]

FACT = {"prompt": "The capital of France is", "subject": "France"}
# what of the last event is compared, how far apart it may be, and the run's settings
CASES: dict[str, tuple[str, str, float, dict[str, Any]]] = {
    "trace.causal": ("scribe", "effect effect_se", 1e-4, FACT),
    "trace.lens": ("scribe", "value", 1e-3, {"prompt": FACT["prompt"]}),
    "attention.map": ("scribe", "weight", 1e-4, {"prompt": FACT["prompt"]}),
    "memorization.completion": ("scribe", "probability", 1e-3, {"prompt": FACT["prompt"], "answer": "Paris"}),
    "unlearn.grad_diff": ("scribe", "value", 0.05, {"forget": "author/Amara Brandale", "steps": 4, "measure": 4}),
    "recall.fidelity": ("scribe", "value", 1e-2, {"material": "tokens", "lags": "2, 8", "loads": "1, 2", "repeats": 2}),
    "diffusion.generate": ("painter", "score", 0.02, {"prompts": "burrito\ndog on blue background", "seeds": 2}),
    "diffusion.words": ("painter", "value", 0.05, {"prompt": "burrito", "steps": 4, "seeds": 2}),
}


def finished(name: str, device: str) -> tuple[Any, bool]:
    """The last event of a run, and whether the model is as it was."""
    organism, _, _, settings = CASES[name]
    model = catalog.load(organism, device)
    assert model.device.type == device
    before = {n: t.clone() for n, t in model.net.state_dict().items()}
    *_, last = [e for e in read(find(name), settings).run(model, data_for(model)) if not isinstance(e, LIVE)]
    return last, all(torch.equal(t, before[n]) for n, t in model.net.state_dict().items())


@pytest.mark.parametrize("name", CASES)
def test_a_gpu_gives_what_a_processor_gives(name):
    _, compared, close, _ = CASES[name]
    (here, kept), (there, kept_too) = finished(name, "cpu"), finished(name, "cuda")
    assert kept and kept_too and set(compared.split()) <= {f.name for f in fields(here)}
    for field in compared.split():
        one, two = (np.asarray(getattr(event, field), float) for event in (here, there))
        np.testing.assert_allclose(two, one, rtol=0, atol=close, equal_nan=True, err_msg=f"{name}: {field}")


def test_a_run_gives_its_memory_back():
    model = catalog.load("scribe", "cuda")
    used = []
    for _ in range(3):  # the first also loads the oracles, which stay
        list(read(find("unlearn.grad_diff"), {"forget": "author/Amara Brandale", "steps": 2, "measure": 2}).run(model, data_for(model)))
        gc.collect()
        used.append(torch.cuda.memory_allocated())
    assert used[2] <= used[0] + 2**20
