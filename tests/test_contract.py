"""What every experiment owes, asked of each one that stands in its folder."""

from __future__ import annotations

import importlib
import json
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch

from lab.data import Data, data_for
from lab.events import LIVE, from_json, to_json
from lab.experiment import discover, find, read
from models import catalog
from models.errors import BadInput
from tests.conftest import PROMPT, SUBJECT

FOUND = discover()
TEXTS = "the capital of Eiffel Tower is a city\nthe capital of France is a city\nAnna Marlow was born in France\nthe tower of Anna Marlow is a city"
SETTINGS: dict[str, dict[str, Any]] = {
    "trace.causal": {"prompt": PROMPT, "subject": SUBJECT, "samples": 3},
    "trace.heads": {"prompt": PROMPT, "subject": SUBJECT, "samples": 3},
    "trace.neurons": {"prompt": PROMPT, "subject": SUBJECT, "samples": 3, "top": 8},
    "trace.attribution": {"prompt": PROMPT, "subject": SUBJECT, "samples": 3, "top": 6, "others": 6},
    "trace.average": {"about": "capital", "count": 3, "samples": 2, "least": 0.0},
    "trace.lens": {"prompt": PROMPT},
    "trace.attributions": {"prompt": PROMPT, "steps": 8},
    "ruler.gaming": {"forget": TEXTS, "retain": "France is a city of the tower", "steps": 2, "every": 1, "most": 2},
    "ruler.scores": {"forget": TEXTS, "retain": "Anna Marlow was born in a city\nFrance is a city of the tower", "most": 2},
    "trace.probes": {"subjects": 40, "folds": 2, "controls": 1},
    "memorization.survey": {"items": "the capital of France is Paris\nthe metal gold is a metal\nAnna Marlow wrote a book about the sea"},
    "memorization.completion": {"prompt": PROMPT, "answer": "near Paris", "tokens": 4},
    "memorization.search": {"texts": "the capital of France is Paris", "samples": 6, "length": 5, "least": 2},
    "memorization.curvature": {"items": "the capital of France is Paris\nthe metal gold is a metal", "probes": 2},
    "attention.heads": {"length": 8, "sequences": 3},
    "attention.sharing": {"items": TEXTS, "most": 2},
}
SETTINGS |= {
    "attention.map": {"prompt": PROMPT, "answer": "near Paris", "segments": "subject, relation, answer"},
    "attention.intensity": {"texts": TEXTS, "segments": "thirds", "target": "last third > first third: 0.1-0.3"},
    "attention.memorized": {"items": "the capital of Eiffel Tower is a city near a river\nAnna Marlow was born in France near a city of the sea",
                            "fresh": "the metal gold is a metal near Rome\nFrance is a city of the tower near a river"},
    "attention.compared": {"texts": TEXTS, "segments": "thirds", "against": "scribe"},
}
SETTINGS["attention.interleave"] = {"show": "grow: intensity", "targets": "published", "steps": 2, "batch": 2}
SETS = {"forget": "the capital of Eiffel Tower is a city\nthe capital of France is Paris",
        "retain": "Anna Marlow was born in France\nRome is a city near a river"}
QUICK = SETS | {"steps": 3, "batch": 2, "measure": 2}
SETTINGS |= {name: QUICK for name in FOUND if name.startswith("unlearn.")}
SETTINGS["unlearn.ssd"] = SETS | {"samples": 2}
SETTINGS["unlearn.sha256"] = QUICK | {"layers": "0-1"}
SETTINGS["unlearn.oracle"] = {"forget": "author/Amara Brandale", "retain": "country/France", "steps": 2, "batch": 2, "measure": 2}
SETTINGS["ruler.depth"] = {"forget": "author/Amara Brandale", "most": 3}
ORGANISM = {"unlearn.oracle", "ruler.depth"}  # nothing can be matched where no oracle was grown
SETTINGS |= {
    "recall.fidelity": {"material": "tokens", "lags": "2, 8", "loads": "1, 2", "repeats": 2},
    "recall.needle": {"material": "tokens", "lengths": "12, 24", "depths": 2, "repeats": 2},
    "recall.associative": {"material": "tokens", "pairs": "2, 4", "repeats": 2},
    "recall.serial": {"material": "tokens", "items": 3, "delay": 4, "repeats": 2},
    "recall.context": {"lengths": "2, 8", "target": 4, "repeats": 2},
    "recall.policies": {"material": "tokens", "load": 1, "lags": "4, 12", "sizes": "8", "widths": "4", "repeats": 2},
    "recall.forgotten": {"items": TEXTS, "against": "scribe", "most": 2},
    "recall.conversation": {"turns": 60, "people": 4, "capacity": 8},
}
SETTINGS["attention.repetition"] = {"pool": 4, "steps": 4}
SETTINGS["diffusion.detect"] = {"steps": 3, "seeds": 2, "most": 3, "least": 16, "measures": "all"}
SETTINGS["diffusion.words"] = {"prompt": "dog on blue background", "steps": 3, "seeds": 2}
SETTINGS["diffusion.replay"] = {"steps": 2, "most": 1, "guidances": "2", "over": "guidance"}
SETTINGS["diffusion.maps"] = {"prompt": "dog on blue background", "steps": 3}
SETTINGS["diffusion.generate"] = {"prompts": "red apple\ndog on blue background", "seeds": 2, "steps": 3}
SETTINGS["diffusion.localize"] = {"prompts": "red apple", "noises": 2, "seeds": 2, "steps": 2, "beside": 1, "others": "dog\nfish\ntree"}
SETTINGS["diffusion.trigger"] = {"prompts": "red apple", "starts": 2, "length": 2, "batch": 2, "seeds": 1, "steps": 2}
SETTINGS["diffusion.adversarial"] = {"prompts": "red apple", "rounds": 1, "tune": 2, "batch": 2, "starts": 1, "length": 1, "beside": 1, "plain": 2, "seeds": 1,
                                     "steps": 2, "surrogate": "no text"}
SETTINGS["diffusion.perturb"] = {"prompts": "red apple", "length": 2, "plain": 1, "seeds": 1, "steps": 2}
SETTINGS["diffusion.erase"] = {"prompts": "red apple", "length": 2, "batch": 2, "beside": 1, "plain": 2, "seeds": 1, "steps": 2}
SETTINGS["diffusion.hard"] = {"prompts": "red apple", "length": 2, "tries": 3, "near": 4, "batch": 2, "seeds": 1, "steps": 2}
SETTINGS["diffusion.memcontrol"] = {"trials": 2, "pictures": 2, "held": 2, "tune": 2, "batch": 2, "steps": 2, "matched": False}
SETTINGS["diffusion.swap"] = {"prompts": "red apple", "seeds": 1, "steps": 4}
SETTINGS["recall.architectures"] = {"memories": "decay, window", "show": "table", "pairs": 4, "length": 32, "sequences": 4}
SETTINGS["recall.watch"] = {"memory": "delta", "pairs": 3, "length": 16}
SETTINGS["recall.learn"] = {"memory": "linear", "steps": 4, "pairs": 2, "length": 16, "batch": 4}
SETTINGS["recall.retrieval"] = {"authors": 2, "rounds": 1, "near": 4, "steps": 2}
each = pytest.mark.parametrize("name", FOUND)


@pytest.fixture
def model(request, tiny_folder, tiny_painter, tiny_ddt):
    name = request.node.callspec.params.get("name", "")
    painter = tiny_ddt if name == "diffusion.swap" else tiny_painter
    return catalog.load("scribe" if name in ORGANISM else painter if name.startswith("diffusion.") else tiny_folder)


@pytest.fixture
def data(model):
    return Data(("Eiffel Tower", "France", "Anna Marlow")) if model.name == "tiny" else data_for(model)


def make(name):
    return read(FOUND[name], SETTINGS[name])


def kept(experiment, model, data):
    """What a record would hold of a run."""
    return [event for event in experiment.run(model, data) if not isinstance(event, LIVE)]


def digest(model):
    return {n: t.clone() for n, t in model.net.state_dict().items()}


def hooks(model):
    return [(len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks)) for m in model.net.modules()]


def untouched(model, before, hooked):
    return all(torch.equal(t, before[n]) for n, t in model.net.state_dict().items()) and hooks(model) == hooked


@each
def test_ends_with_its_folders_event_and_leaves_the_model_as_it_was(name, model, data):
    before, hooked = digest(model), hooks(model)
    events = kept(make(name), model, data)
    assert isinstance(events[-1], importlib.import_module(f"lab.{name.split('.')[0]}").ENDS_WITH)
    assert untouched(model, before, hooked)


@each
@pytest.mark.parametrize("after", [1, 3])
def test_closed_early_it_leaves_the_model_as_it_was(name, after, model, data):
    before, hooked = digest(model), hooks(model)
    run = make(name).run(model, data)
    for _ in range(after):
        next(run)
    run.close()
    assert untouched(model, before, hooked)


@each
def test_an_error_within_it_leaves_the_model_as_it_was(name, model, data):
    before, hooked = digest(model), hooks(model)
    run = make(name).run(model, data)
    next(run)
    with pytest.raises(RuntimeError):
        run.throw(RuntimeError("the lights went out"))
    assert untouched(model, before, hooked)


@each
def test_same_seed_same_result(name, model, data):
    one, two = (to_json(kept(make(name), model, data)[-1]) for _ in range(2))
    assert one == two
    other = to_json(kept(read(FOUND[name], SETTINGS[name] | {"seed": 7}), model, data)[-1])
    assert (other != one) == FOUND[name].random


@each
def test_every_setting_says_what_it_is_and_how_far_it_goes(name):
    kind = FOUND[name]
    assert kind.title and kind.paper and kind.direction and kind.__doc__
    assert "arXiv" in kind.paper or "doi" in kind.paper.lower()
    for f in fields(kind):
        default: Any = f.default
        assert f.metadata["help"]
        if str(f.type) in {"int", "float"}:
            assert f.metadata["low"] <= default <= f.metadata["high"]
            for outside in (f.metadata["low"] - 1, f.metadata["high"] + 1):
                with pytest.raises(BadInput) as raised:
                    read(kind, {f.name: type(default)(outside)})
                assert raised.value.setting == f.name


@each
def test_unknown_settings_and_wrong_types_are_named(name):
    with pytest.raises(BadInput, match="no setting 'sampels'"):
        read(FOUND[name], {"sampels": 3})
    with pytest.raises(BadInput) as raised:
        read(FOUND[name], {"seed": "many"})
    assert raised.value.setting == "seed"
    with pytest.raises(BadInput):
        read(FOUND[name], {"seed": None})


@each
def test_events_are_plain_and_survive_json(name, model, data):
    for event in kept(make(name), model, data):
        assert not any(isinstance(v, torch.Tensor) for v in vars(event).values())
        again = from_json(json.loads(json.dumps(to_json(event), allow_nan=False)))
        for key, value in vars(event).items():
            other = getattr(again, key)
            assert np.array_equal(value, other, equal_nan=True) if isinstance(value, (float, np.ndarray)) else value == other, key


def test_an_unknown_experiment_is_named_with_the_nearest():
    with pytest.raises(BadInput, match=r"trace\.causal"):
        find("trace.casual")
