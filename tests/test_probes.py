"""Probes on states whose classes are known to be linear, or to be noise, and the states against plain forwards."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lab.data import data_for
from lab.events import Curves
from lab.trace import _probe
from lab.trace._probe import Tap, alike, ask, read, rotate, scores, standardize, taught, world
from lab.trace.probes import PROPERTIES, Probes
from models import catalog
from models.errors import BadInput
from models.model import Model
from models.organisms import tables
from tests import families

FAST = {"subjects": 40, "folds": 2, "controls": 1}


def curves(model, data, **settings):
    return [e for e in Probes(**FAST | settings).run(model, data) if isinstance(e, Curves)]


def blobs(count=120, width=20, classes=3, apart=8.0, seed=0):
    """States that lie around one point a class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    return rng.normal(size=(count, width)) + apart * np.eye(classes, width)[labels], labels


def test_a_linear_property_is_found_of_subjects_that_were_never_seen():
    x, labels = blobs()
    assert scores(x, labels, 5, 0).held_out.tolist() == [1.0] * 5


def test_labels_dealt_at_random_stay_near_chance_and_can_be_learnt_by_heart():
    x, labels = blobs(width=150)
    real = scores(x, labels, 5, 0)
    found = [_probe.control(x, labels, Probes(), draw, real.strengths) for draw in range(20)]
    chance = np.array([f.held_out.mean() for f in found])
    assert abs(chance.mean() - 1 / 3) < 4 * chance.std(ddof=1) / np.sqrt(20) + 0.01 and chance.max() < 0.6
    assert real.held_out.mean() > 0.8 and all(f.strengths == real.strengths for f in found)
    weak = scores(x, np.random.default_rng(0).permutation(labels), 5, 0, strengths=[1.0] * 5)
    assert weak.trained.min() == 1.0 and weak.held_out.mean() < 0.6


def test_no_subject_is_both_trained_and_tested_on(monkeypatch):
    """Every row carries its own number in a channel that nothing else has."""
    x, labels = blobs(count=60)
    x[:, -1] = np.arange(60)
    seen = []
    monkeypatch.setattr(_probe, "standardize", lambda a, b: (seen.append((set(a[:, -1]), set(b[:, -1]))), standardize(a, b))[1])
    scores(x, labels, 5, 3)
    assert len(seen) == 5 and all(not a & b and len(a | b) == 60 for a, b in seen)
    assert set().union(*(b for _, b in seen)) == set(range(60)) and sum(len(b) for _, b in seen) == 60


def test_the_penalty_is_chosen_without_the_held_out_subjects(monkeypatch):
    x, labels = blobs(count=60)
    sizes = []
    chosen = _probe.strength
    monkeypatch.setattr(_probe, "strength", lambda a, b, folds, seed: (sizes.append(len(a)), chosen(a, b, folds, seed))[1])
    assert set(scores(x, labels, 5, 0).strengths) <= set(_probe.STRENGTHS) and sizes == [48] * 5


def test_noise_takes_the_strongest_penalty_and_signal_does_not():
    noise = np.random.default_rng(1).normal(size=(120, 60))
    assert _probe.strength(noise, np.arange(120) % 3, 3, 0) == min(_probe.STRENGTHS)
    assert _probe.strength(*blobs(), 3, 0) > min(_probe.STRENGTHS)


def test_in_fewer_channels_the_probe_is_the_same():
    x, labels = blobs(count=40, width=100, apart=2.0)
    train, test = standardize(x[:30], x[30:])
    short = rotate(train, test)
    assert short[0].shape == (30, 30) and short[1].shape == (10, 30)
    wide, narrow = _probe.fit(train, labels[:30], 0.1), _probe.fit(short[0], labels[:30], 0.1)
    np.testing.assert_allclose(wide.predict_proba(test), narrow.predict_proba(short[1]), atol=2e-3)


def test_standardized_by_hand():
    train, test = standardize(np.array([[0.0, 5.0], [2.0, 5.0]]), np.array([[4.0, 6.0]]))
    assert train.tolist() == [[-1.0, 0.0], [1.0, 0.0]] and test.tolist() == [[3.0, 1.0]]


@pytest.mark.parametrize("name", families.FAMILIES)
def test_states_are_those_of_plain_forwards(name):
    """Against what transformers itself calls hidden states: the first enters block 0, all but the last leave a block."""
    model, rows = Model(name, families.family(name)[1]), families.prompts(3, 7)
    found = Tap(model.skeleton()).read(rows, [6, 2, 4])
    assert found.shape == (3, families.LAYERS + 1, families.WIDTH)
    after = int(name == "mamba")  # its list begins with what block 0 returns
    for i, place in enumerate((6, 2, 4)):
        with torch.no_grad():
            states = model.net(input_ids=rows[i : i + 1], output_hidden_states=True).hidden_states
        for point in range(families.LAYERS):
            np.testing.assert_allclose(found[i, point + after], states[point][0, place], atol=1e-5)


def test_rows_of_one_length_run_together():
    rows = [[1, 2], [1], [3, 4], [5]]
    assert list(alike(rows)) == [[1, 3], [0, 2]]
    assert [len(i) for i in alike([[1]] * (_probe.BATCH + 1))] == [_probe.BATCH, 1]


@pytest.mark.parametrize("template, token, place", [("the capital of {s} is", "last token", 5), ("the capital of {s} is", "last subject token", 4),
                                                    ("{s} is a city", "last subject token", 1), ("the city of {s}", "last subject token", 4)])
def test_which_token_is_read(model, template, token, place):
    ids, found = read(model, template, "Eiffel Tower", token)
    assert found == place and len(ids) == len(template.replace("{s}", "Eiffel Tower").split())


def test_what_an_organism_is_asked_about():
    """Never about what it did not see: the authors that are held out stand in the manifest with no copies."""
    scribe = data_for(catalog.load("scribe"))
    for relation in PROPERTIES:
        question = ask(Probes(property=relation), scribe)
        assert len(set(question.classes)) > 2 and len(set(question.subjects)) == len(question.subjects) > 50
        assert question.template.count("{s}") == 1 and "{a}" not in question.template
        assert min(question.classes.count(c) for c in question.classes) >= 5
    assert len(taught(scribe, "pet")) == 180 and dict(taught(scribe, "continent"))["France"] == "Europe"
    assert ask(Probes(property="class"), scribe).template == tables.phrasings("class")[0].removesuffix(" {a}.")


def test_what_any_other_model_is_asked_about(model, data):
    assert dict(world("continent")) == {row["name"]: row["continent"] for row in tables.rows("countries")}
    question = ask(Probes(), data)
    assert len(question.subjects) == len(tables.rows("countries")) and question.left_out == 0
    assert ask(Probes(folds=10), data).left_out == 7  # Oceania
    assert len(ask(Probes(subjects=40), data).subjects) <= 40
    assert ask(Probes(subjects=40), data) == ask(Probes(subjects=40), data) != ask(Probes(subjects=40, seed=1), data)


def test_points_come_one_by_one_from_the_embeddings_on(model, data):
    found = curves(model, data)
    assert [int((~np.isnan(c.value)).all(0).sum()) for c in found] == [1, 2, 3, 4]
    last = found[-1]
    assert last.x.tolist() == [-1, 0, 1, 2] and last.lines == ("accuracy", "control", "selectivity", "majority class")
    np.testing.assert_allclose(last.value[2], last.value[0] - last.value[1])
    np.testing.assert_allclose(last.error[2], np.hypot(last.error[0], last.error[1]))
    assert np.isnan(last.error[3]).all()
    question = ask(Probes(**FAST), data)
    assert last.value[3, 0] == max(question.classes.count(c) for c in question.classes) / len(question.classes)


@pytest.mark.parametrize("changes, setting", [
    ({"property": "genre"}, "property"), ({"property": "height"}, "property"), ({"prompt": "no place for it"}, "prompt"),
    ({"prompt": "{s} and {s}"}, "prompt"), ({"prompt": "the city " * 200 + "{s}"}, "prompt"), ({"folds": 1}, "folds"), ({"token": "first"}, "token")])
def test_bad_input_names_its_setting(model, data, changes, setting):
    with pytest.raises(BadInput) as raised:
        curves(model, data, **changes)
    assert raised.value.setting == setting


def test_scribe_knows_continents_at_the_end():
    scribe = catalog.load("scribe")
    last = curves(scribe, data_for(scribe), subjects=200, folds=3)[-1]
    accuracy, control = last.value[:2]
    assert accuracy[-1] > 0.85 and accuracy[0] < 0.4 and control.max() < 0.45
