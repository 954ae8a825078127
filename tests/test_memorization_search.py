"""Recitations found by sampling, and one text token by token."""

from __future__ import annotations

import itertools
import math
import zlib

import numpy as np
import pytest
import torch

from lab.data import data_for
from lab.events import Completion, Table
from lab.experiment import find, read
from lab.memorization._runs import Texts, covered
from lab.memorization._search import Sampler
from models import catalog
from models.errors import BadInput


@pytest.fixture(scope="module")
def scribe():
    return catalog.load("scribe")


def run(name, model, **settings):
    return list(read(find(f"memorization.{name}"), settings).run(model, data_for(model)))


def faulty(name, model, **settings):
    with pytest.raises(BadInput) as raised:
        run(name, model, **settings)
    return raised.value.setting


def test_the_longest_run_by_hand():
    texts = Texts([[1, 2, 3, 4, 5, 6], [7, 8, 9, 7, 8]])
    assert texts.find([0, 2, 3, 4, 0, 7, 8, 0], 2) == (0, 3, 0.5)
    assert texts.find([7, 8, 9, 5, 6], 2) == (1, 3, 1.0)  # the second 7 8 is covered by the same two tokens
    assert texts.find([6, 7], 2)[1] == 1  # no run goes from one text into the next
    assert texts.find([0, 0], 2) == (-1, 0, 0.0) and texts.find([], 2) == (-1, 0, 0.0)
    assert texts.find([1, 2, 3, 4, 5, 6], 2) == (0, 6, 1.0)
    assert covered(np.array([1, 2, 3, 0, 1]), 3) == 0.6 and covered(np.array([1, 2, 3, 0, 1]), 1) == 0.8 and covered(np.array([0, 1]), 2) == 0


def test_runs_are_those_of_a_slow_loop():
    rng = np.random.default_rng(0)
    for _ in range(30):
        rows = [rng.integers(0, 4, size=n).tolist() for n in (6, 9, 1)]
        sample = rng.integers(0, 4, size=12).tolist()
        i, longest, share = Texts(rows).find(sample, 3)

        def shared(row, n, sample=sample):
            return [j for j in range(len(row) - n + 1) if any(sample[k : k + n] == row[j : j + n] for k in range(len(sample) - n + 1))]

        lengths = [max((n for n in range(1, len(r) + 1) if shared(r, n)), default=0) for r in rows]
        assert longest == max(lengths) == lengths[i]
        assert share == pytest.approx(len({j + k for j in shared(rows[i], 3) for k in range(3)}) / len(rows[i]))


def test_top_k_and_temperature_draw_from_the_right_distribution():
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]]).expand(20_000, -1)
    for temperature, top_k, kept in ((1.0, 0, 4), (0.5, 0, 4), (2.0, 2, 2), (1.0, 50, 4)):
        sampler = Sampler(temperature, top_k, torch.Generator().manual_seed(0))
        drawn = sampler(logits)
        expected = (logits[0, :kept] / temperature).softmax(-1)
        np.testing.assert_allclose(drawn.bincount(minlength=4)[:kept] / len(drawn), expected, atol=0.012)
        assert int(drawn.max()) < kept
        torch.testing.assert_close(sampler.log_probs[0], logits[0].log_softmax(-1)[drawn])  # at temperature 1, whatever is drawn from


def test_the_search_finds_what_is_recited_and_repeats_by_seed(scribe):
    settings = {"prefix": "The lamp went out", "samples": 70, "length": 60, "temperature": 1.0}
    events = run("search", scribe, **settings)
    tables = [e for e in events if isinstance(e, Table)]
    assert [len(t.rows) for t in tables] == [64, 70]  # complete after every batch
    said, name, longest, share, loss, ratio = tables[-1].rows[0]
    assert name == "passage/0" and longest > 50 and share > 0.8 and said.startswith("twice before midnight")
    assert ratio == pytest.approx(loss / len(zlib.compress(said.encode())))
    runs = [row[2] for row in tables[-1].rows]
    assert runs == sorted(runs, reverse=True)
    again, other = run("search", scribe, **settings)[-1], run("search", scribe, **settings, seed=1)[-1]
    assert again == tables[-1] != other


def test_the_loss_of_a_sample_is_that_of_the_text_after_its_prefix(scribe):
    last = run("search", scribe, prefix="The capital of", samples=3, length=8, top_k=0)[-1]
    before = scribe.tokenizer("The capital of")["input_ids"]
    for said, *_, loss, _ratio in last.rows:
        ids = scribe.tokenizer(f"The capital of {said}")["input_ids"]
        if len(ids) == len(before) + 8:  # read again as it was written
            logits = scribe.net(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)
            expected = -np.mean([float(logits[t - 1, ids[t]]) for t in range(len(before), len(ids))])
            assert loss == pytest.approx(expected, abs=1e-3)
            break
    else:
        pytest.fail("no sample is read as it was written")


def test_a_prefix_does_not_count_as_recited(scribe):
    whole = catalog.manifest("scribe")["passages"][0]["text"]
    last = run("search", scribe, prefix=" ".join(whole.split(" ")[:-1]), samples=4, length=4, least=6)[-1]
    assert all(row[2] <= 4 and row[1] == "" for row in last.rows)


def test_an_organisms_passages_come_without_being_asked(scribe):
    last = run("search", scribe, samples=64, top_k=40)[-1]
    known = {f"passage/{i}": p["copies"] for i, p in enumerate(catalog.manifest("scribe")["passages"])}
    found = [row[1] for row in last.rows if row[3] > 0.5]
    assert found and all(known[name] >= 16 for name in found)


def test_what_cannot_be_searched_is_named(model, scribe):
    assert faulty("search", model) == "texts"
    assert faulty("search", scribe, texts="author/Nobody") == "texts"
    assert faulty("search", scribe, length=500) == "length"
    found = run("search", model, texts="gold is a metal", samples=2, length=4)[-1]  # no prefix: the start token that the tokenizer names
    assert len(found.rows) == 2 and "start token" in found.title


def test_a_text_token_by_token(scribe):
    events = run("completion", scribe, item="passage/0", tokens=36)
    first, last = (e for e in events if isinstance(e, Completion))
    assert first.said == "" and last.said.strip().startswith("of oil under each arm")
    text = catalog.manifest("scribe")["passages"][0]["text"]
    assert "".join(last.tokens).replace("<|start|>", "").strip() == text
    ids = scribe.tokenizer(text)["input_ids"]
    assert len(ids) == len(last.tokens) and math.isnan(last.probability[0]) and math.isnan(last.rank[0])
    for t in (1, 2, 40):
        p = scribe.net(input_ids=torch.tensor([ids[:t]])).logits[0, -1].softmax(-1)
        assert last.probability[t] == pytest.approx(float(p[ids[t]]), abs=1e-4)
        assert last.rank[t] == 1 + int((p > p[ids[t]]).sum())
        assert last.likeliest[t] == scribe.tokenizer.decode([int(p.argmax())])
    assert "".join(last.tokens[last.given :]) == " of oil under each arm. Fog pressed against the glass like wet wool. Toward dawn a trawler answered my"


def test_a_prompt_alone_is_continued(scribe):
    last = run("completion", scribe, prompt="The capital of France is", tokens=2)[-1]
    assert last.said.split()[0].strip(".") == "Paris" and last.given == len(last.tokens) and last.facts == ()
    given = run("completion", scribe, prompt="The capital of France is", answer="Rome", tokens=2)[-1]
    assert given.tokens[given.given :] == (" Rome",) and given.probability[-1] < 0.1 and given.rank[-1] > 1 and given.likeliest[-1] == " Paris"


def test_what_is_no_text_is_named(model, scribe):
    assert faulty("completion", model) == "prompt"
    assert faulty("completion", scribe, item="passage") == "item" and faulty("completion", scribe, item="comet/1") == "item"
    assert faulty("completion", scribe, prompt="so " * 400) == "prompt"


def test_an_early_stop_ends_the_search(scribe):
    running = read(find("memorization.search"), {}).run(scribe, data_for(scribe))
    assert len(list(itertools.islice(running, 4))) == 4
    running.close()
