"""The meter of an unlearning run: the same twice, nothing touched, oracles within their band, and no oracle where none fits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lab.data import Data, data_for
from lab.items import choose, planted
from lab.ruler._answers import coded, divergence, forward, losses, read, recited, said
from lab.ruler._meter import ask, meter, values
from lab.ruler._oracles import fitting, holdout
from models import catalog


def drain(generator):
    yields = 0
    while True:
        try:
            next(generator)
            yields += 1
        except StopIteration as end:
            return end.value, yields


@pytest.fixture(scope="module")
def scribe():
    return catalog.load("scribe", "cpu")


@pytest.fixture(scope="module")
def truth(scribe):
    return data_for(scribe)


@pytest.fixture(scope="module")
def built(scribe, truth):
    return drain(meter(scribe, truth, choose(truth, "forget_10", setting="forget"), choose(truth, "retain", setting="retain"), seed=0))[0]


def test_the_same_weights_give_the_same_figures_and_stay_as_they_were(scribe, built):
    before = {n: t.clone() for n, t in scribe.net.state_dict().items()}
    (one, yields), (two, _) = drain(built.measure(scribe.net)), drain(built.measure(scribe.net))
    assert np.array_equal(one, two) and np.isfinite(one).all()
    assert yields >= 2
    assert built.samples(scribe.net) == built.samples(scribe.net)
    assert all(torch.equal(t, before[n]) for n, t in scribe.net.state_dict().items())


def test_scribe_knows_what_the_oracles_do_not(scribe, built):
    at = {(g, n): i for i, (g, n) in enumerate(zip(built.groups, built.names, strict=True))}
    value = drain(built.measure(scribe.net))[0]
    forget = at["accuracy", "forget"]
    assert value[forget] > 0.95 > 0.2 > built.high[forget]
    kl = at["KL to the oracle", "forget"]
    assert value[kl] > 2 * built.high[kl]
    assert value[at["KL to the oracle", "retain"]] < built.high[kl]
    assert {b for b in built.better} == {"up", "down", "as the oracle"}
    assert len(at) == len(built.names)


def test_every_oracle_lies_within_the_band_and_is_no_distance_from_itself(built):
    for name in built.oracles:
        oracle = catalog.load(name, "cpu")
        value = drain(built.measure(oracle.net))[0]
        for group, v, low, high in zip(built.groups, value, built.low, built.high, strict=True):
            if group != "KL to the oracle":  # this one is averaged over both oracles, the band over the other one
                assert low - 1e-6 <= v <= high + 1e-6
        answers = drain(ask(oracle.net, built._questions))[0]
        own = values(built._keys, built._questions, answers, [answers])
        kl = [v for v, g in zip(own, built.groups, strict=True) if g == "KL to the oracle"]
        assert len(kl) == 2 and max(kl) < 1e-6


def test_another_seed_asks_other_questions(scribe, truth, built):
    other = drain(meter(scribe, truth, choose(truth, "forget_10", setting="forget"), choose(truth, "retain", setting="retain"), seed=1))[0]
    assert other._questions.parts["forget"] != built._questions.parts["forget"]


def test_samples_show_forget_and_retain_questions(scribe, built):
    shown = built.samples(scribe.net)
    assert len(shown) == 6
    for _prompt, answer, before, now, oracle in shown:
        assert before == now and oracle
        assert now.startswith(answer)  # scribe knows its authors


def test_answers_that_are_guessed_are_those_that_are_decoded_one_by_one(scribe):
    prompts = [scribe.tokenizer(text)["input_ids"] for text in ("The capital of France is", "The author Amara Brandale was born in", "Once")]
    slowly = [list(p) for p in prompts]
    for _ in range(6):
        for row in slowly:
            row.append(int(forward(scribe.net, [row])[0, -1].argmax()))
    expected = [row[len(p) :] for row, p in zip(slowly, prompts, strict=True)]
    for guesses in ([[7] * 6] * 3, expected, [[5] * 6, expected[1], [*expected[2][:3], 7, 7, 7]]):
        assert said(scribe.net, prompts, guesses) == expected


def test_no_oracle_for_what_all_of_them_read(scribe, truth):
    france = choose(truth, "country/France", setting="forget")
    names, why = fitting(truth, france)
    assert names == () and "read" in why and "France" in why
    plain = drain(meter(scribe, truth, france, [], seed=0))[0]
    assert plain.why == why and np.isnan(plain.low).all() and np.isnan(plain.high).all()
    assert "KL to the oracle" not in plain.groups and "retain" not in plain.names
    assert plain.samples(scribe.net)[0][4] == ""


def test_which_oracles_fit(truth):
    oracles = ("scribe-oracle-a", "scribe-oracle-b")
    names, remark = fitting(truth, choose(truth, "forget_10\nforget", setting="forget"))
    assert names == oracles and remark == ""  # exactly what they did not read
    names, remark = fitting(truth, choose(truth, "forget_2", setting="forget"))
    assert names == oracles and "144 other items" in remark  # 64 facts of the others, 32 passages, 48 canaries
    assert fitting(truth, choose(truth, "forget_20", setting="forget"))[0] == ()
    assert "never read" in fitting(truth, choose(truth, "holdout", setting="forget"))[1]
    assert "row of your own" in fitting(truth, choose(truth, "rows: a b c d", setting="forget"))[1]
    assert fitting(data_for(catalog.load("scribe-oracle-a")), choose(truth, "forget_10", setting="forget"))[0] == ()


def test_holdouts_are_of_the_same_kind_and_never_read(truth):
    kept = holdout(truth, choose(truth, "forget_10", setting="forget"))
    assert len(kept) == 160 and {(i.kind, i.copies) for i in kept} == {("author", 0)}
    mine = [i for i in planted(truth.manifest) if i.split == "holdout"]
    assert not holdout(truth, mine)


def test_a_model_without_a_manifest_is_measured_without_oracles(model, data: Data):
    forget = choose(data, "the capital of Eiffel Tower is a city", setting="forget")
    built = drain(meter(model, data, forget, forget, seed=0))[0]
    assert set(built.groups) == {"accuracy", "probability"} and built.oracles == () and "nobody knows" in built.why
    assert np.isfinite(drain(built.measure(model.net))[0]).all()


def test_rows_by_hand(scribe):
    """Losses, recitation and divergence against a plain forward of one row."""
    row = coded(scribe, "The capital of France is", "Paris")
    ids = scribe.tokenizer("The capital of France is Paris")["input_ids"]
    assert row is not None and list(row.ids) == ids
    with torch.no_grad():
        plain = scribe.net(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
    by_hand = -np.mean([plain[t - 1, ids[t]].item() for t in range(row.start, len(ids))])
    other = coded(scribe, "The capital of France is", "Rome and Berlin")
    assert other is not None
    answers = drain(read(scribe.net, [other, row]))[0]  # padded beside a longer one
    assert losses(answers, [other, row])[1] == pytest.approx(by_hand, abs=1e-4)
    assert recited(answers, [other, row]).tolist() == [0, 1]
    assert divergence(answers, answers).max() < 1e-6
    p, q = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.9, 0.1]]).log()
    assert divergence([p], [q])[0] == pytest.approx(0.5 * np.log(0.5 / 0.9) + 0.5 * np.log(0.5 / 0.1), abs=1e-6)


def test_rows_that_are_too_long_or_too_short(scribe):
    assert coded(scribe, "", "") is None
    long = coded(scribe, "word " * 400, "another " * 400)
    assert long is not None and len(long.ids) == 256 and long.start == 128


def test_a_net_in_training_is_measured_without_dropout_and_goes_on_training(scribe):
    net = scribe.skeleton().train()
    row = coded(scribe, "The capital of France is", "Paris")
    drain(read(net, [row]))
    assert net.training
