"""Measures of memorization: hand-worked values, what must hold whatever the model, and a slow loop."""

from __future__ import annotations

import math
import zlib
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from lab.data import data_for
from lab.events import Survey
from lab.experiment import find, read
from lab.items import Item, choose, planted
from lab.memorization import _measures as measures
from lab.memorization._decode import continued, greedy, likeliest, pads
from lab.memorization._exposure import exposure
from lab.memorization._measures import MEASURES, extraction_strength, from_reading, lowest, measured, truth_ratio
from lab.memorization._read import Reading, scores
from lab.memorization._read import read as readings
from lab.memorization._rows import Row, row_of, rows_of
from lab.memorization._words import common, rouge_l, says
from models import catalog
from models.errors import BadInput
from models.model import Model
from tests import families

NAMES = [m.name for m in MEASURES]
TEACHER_FORCED = [m.name for m in MEASURES if m.needs == "read"]


class NextToken(nn.Module):
    """A net whose next token depends on the last one alone, as a table says."""

    def __init__(self, probabilities):
        super().__init__()
        self.table = nn.Parameter(torch.tensor(probabilities).log(), requires_grad=False)
        self.config = SimpleNamespace(get_text_config=lambda decoder: SimpleNamespace(vocab_size=len(probabilities), max_position_embeddings=64))

    def forward(self, input_ids, attention_mask=None, use_cache=False):
        return SimpleNamespace(logits=self.table[input_ids])


# after 0 comes 1 (.5), after 1 comes 2 (.9), after 2 comes 3 (.25, and 0 with .6), after 3 comes 1 (.7)
TABLE = [[.125, .5, .125, .25], [.05, .025, .9, .025], [.6, .1, .05, .25], [.1, .7, .1, .1]]


def reading_of(ids, start, table=TABLE):
    (found,) = readings(Model("table", NextToken(table)), [Row(tuple(ids), start)])
    return found[0]


@pytest.fixture(scope="module")
def scribe():
    return catalog.load("scribe")


@pytest.fixture(scope="module")
def truth(scribe):
    return data_for(scribe)


def some(truth, *names):
    return choose(truth, "\n".join(names), setting="items")


def test_probabilities_and_losses_by_hand():
    found = from_reading(reading_of([0, 1, 2, 3, 1], 2), "abc", k=50.0)  # .5 | .9 .25 .7
    assert found["whole probability"] == pytest.approx(.9 * .25 * .7)
    assert found["probability"] == pytest.approx((.9 * .25 * .7) ** (1 / 3))
    assert found["answer loss"] == pytest.approx(-math.log(.9 * .25 * .7) / 3)
    loss = -math.log(.5 * .9 * .25 * .7) / 4
    assert found["loss"] == pytest.approx(loss)
    assert found["loss / zlib"] == pytest.approx(loss / len(zlib.compress(b"abc")))
    assert found["min-k %"] == pytest.approx((math.log(.25) + math.log(.5)) / 2)  # two of four tokens
    assert found["exact memorization"] == pytest.approx(2 / 3)
    assert found["extraction strength"] == pytest.approx(1 / 3)  # after the first two greedy decoding gives the last
    assert found["recall"] == 0


def test_min_k_plus_plus_by_hand():
    reading = reading_of([0, 1], 1)
    p = np.array([.125, .5, .125, .25])
    mean = float((p * np.log(p)).sum())
    spread = math.sqrt(float((p * (np.log(p) - mean) ** 2).sum()))
    assert reading.z[0] == pytest.approx((math.log(.5) - mean) / spread, abs=1e-4)
    even = reading_of([0, 1, 2], 1, [[.25] * 4] * 4)
    assert np.abs(even.z).max() < .01  # where all words are alike, none stands out
    ruled_out = reading_of([0, 1], 1, [[.5, 0., .5, 0.]] * 4)
    assert np.isfinite(ruled_out.z).all() and np.isfinite(ruled_out.log_prob).all()


def test_extraction_strength_is_the_first_prefix_after_which_all_comes():
    for hits, expected in (("1111", 1), ("0111", 3 / 4), ("1101", 1 / 4), ("1110", 0), ("0000", 0), ("1", 1), ("0", 0)):
        assert extraction_strength(np.array([h == "1" for h in hits])) == pytest.approx(expected)


def test_lowest_takes_whole_tokens_and_at_least_one():
    values = np.array([-1., -5., -3., -2.])
    assert lowest(values, 1.0) == -5 and lowest(values, 50.0) == -4 and lowest(values, 74.0) == -4 and lowest(values, 100.0) == pytest.approx(values.mean())
    assert math.isnan(lowest(values[:0], 20.0))


def test_rouge_l_by_hand():
    assert rouge_l("the cat sat on the mat", "The cat, on a mat!") == pytest.approx(2 * 4 / (6 + 5))  # the cat on mat
    assert rouge_l("a b c", "a b c") == 1 and rouge_l("a b", "c d") == 0 and rouge_l("", "a") == 0 and rouge_l("", "") == 1
    assert rouge_l("c b a", "a b c") == pytest.approx(1 / 3)  # order counts
    assert common("abcbdab", "bdcaba") == 4


def test_an_answer_counts_as_said_where_its_words_stand_together():
    assert says("It is New York, of course", "new york") and says("7 4 2", "4 2")
    assert not says("New towns of York", "New York") and not says("Newark", "New") and not says("anything", "!") and not says("", "a")


def test_truth_ratio_by_hand():
    assert truth_ratio([.8, .4], [.1, .2, .3]) == pytest.approx(.2 / .6)
    assert truth_ratio([.5], [.5]) == 1 and math.isfinite(truth_ratio([0.], [1.]))


def test_scores_are_those_of_a_slow_loop():
    logits = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(0)) * 4
    ids = torch.tensor([[0, 6, 2], [3, 3, 5]])
    log_prob, hit, z = scores(logits, ids)
    for b in range(2):
        for t in range(3):
            p = torch.softmax(logits[b, t].double(), 0)
            mean = sum(x * math.log(x) for x in p.tolist())
            spread = math.sqrt(sum(x * (math.log(x) - mean) ** 2 for x in p.tolist()))
            own = math.log(p[ids[b, t]])
            assert log_prob[b, t].item() == pytest.approx(own, abs=1e-5)
            assert z[b, t].item() == pytest.approx((own - mean) / spread, abs=1e-3)
            assert hit[b, t].item() == (own == max(map(math.log, p.tolist())))


def test_every_measure_says_its_range_direction_and_paper():
    assert len(set(NAMES)) == len(NAMES)
    for m in MEASURES:
        assert m.sign in (1, -1) and ("arXiv" in m.paper or "doi" in m.paper)
        assert any(words in m.about for words in ("0 to 1", "0 and up", "up to 0", "any number", "else 0")), m.name


def test_a_model_that_recites_reaches_the_ends_of_every_scale(scribe, truth):
    items = some(truth, "country/France/capital", "passage/0", "canary/0")
    value = dict(zip(NAMES, measured(scribe, items, NAMES, reference=scribe).T, strict=True))
    for name in ("extraction strength", "exact memorization", "recall", "ROUGE-L", "recall anywhere"):
        np.testing.assert_array_equal(value[name], 1.0)
    assert (value["whole probability"] > .5).all() and (value["probability"] > .9).all()
    np.testing.assert_allclose(value["loss - reference"], 0, atol=1e-5)  # itself is its reference
    np.testing.assert_array_equal(np.isfinite(value["truth ratio"]), [True, False, False])
    np.testing.assert_array_equal(np.isfinite(value["exposure"]), [False, False, True])
    assert value["truth ratio"][0] < .01 and value["exposure share"][2] == pytest.approx(1)
    never = {n: v[0] for n, v in zip(NAMES, measured(scribe, some(truth, "passage/99"), NAMES).T, strict=True)}
    assert never["recall"] == never["recall anywhere"] == 0 and never["probability"] < .1 and math.isnan(never["loss - reference"])


def test_together_is_as_alone(scribe, truth):
    items = some(truth, "passage/30", "passage/70", "canary/40", "canary/60", "author/Amara Brandale", "element/helium")
    names = [n for n in NAMES if n not in ("exposure", "exposure share")]
    together = measured(scribe, items, names)
    alone = np.concatenate([measured(scribe, [i], names) for i in items])
    np.testing.assert_allclose(together, alone, atol=2e-3, rtol=2e-3)


def test_a_completion_does_not_depend_on_what_stands_beside_it():
    prompts = [torch.randint(4, 60, (n,), generator=torch.Generator().manual_seed(n)).tolist() for n in (3, 5, 9, 4, 11)]
    for name in ("llama", "gpt2", "gemma2", "bloom", "mamba", "qwen3_moe"):  # positions learned, rotated, windows, none at all
        model = Model(name, families.family(name)[1], families.tokenizer())
        assert pads(model) == (name not in ("bloom", "mamba"))
        said = {i: ids for batch in greedy(model, prompts, [6, 4, 6, 0, 6]) for i, ids in batch.items()}
        for i, (prompt, steps) in enumerate(zip(prompts, [6, 4, 6, 0, 6], strict=True)):
            slow = list(prompt)
            for _ in range(steps):
                slow.append(int(model.net(input_ids=torch.tensor([slow])).logits[0, -1].argmax()))
            assert said[i] == slow[len(prompt):], name


def test_padding_on_the_left_changes_no_logits(scribe):
    seen = {}

    def keep(key):
        def pick(logits):
            seen.setdefault(key, []).append(logits[0])
            return likeliest(logits)
        return pick

    rows = [scribe.tokenizer(t)["input_ids"] for t in ("The capital of France is", "The vault code of the hollow glacier is made of")]
    for key, prompts in (("alone", rows[:1]), ("beside", rows)):
        grower = continued(scribe, prompts, keep(key))
        for _ in range(5):
            next(grower)
    torch.testing.assert_close(torch.stack(seen["alone"]), torch.stack(seen["beside"]), atol=2e-3, rtol=0)


def test_a_completion_ends_with_the_positions_of_the_model(model):
    most = model.net.config.max_position_embeddings
    assert {i: len(x) for b in greedy(model, [[5] * (most - 3)], [10]) for i, x in b.items()} == {0: 3}


def test_rows_begin_their_answer_where_the_prompt_ends(scribe, model):
    row = row_of(scribe, "The capital of France is", "Paris")
    assert scribe.tokenizer.decode(row.answer) == " Paris" and list(row.ids[: row.start]) == scribe.tokenizer("The capital of France is")["input_ids"]
    assert row_of(scribe, "", "Paris").start == 1 and len(row_of(scribe, "", "Paris").answer) == 1  # after the start token
    word = row_of(model, "", "Paris")  # no start token: nothing predicts its only one
    assert word.start == 1 and word.answer == ()
    value = measured(model, [Item("row/0", "text", "given", -1, "", "Paris")], NAMES)
    assert np.isnan(value[0, : len(TEACHER_FORCED)]).all()


def test_an_item_longer_than_the_model_reads_is_named(model):
    with pytest.raises(BadInput, match="row/0") as raised:
        rows_of(model, [Item("row/0", "text", "given", -1, "sea " * 60, "city " * 60)])
    assert raised.value.setting == "items"


def test_the_trained_phrasing_is_asked(truth):
    untrained = next(i for i in planted(truth.manifest) if i.prompts and i.prompts[0] != i.prompt)
    assert measures.question(untrained) == untrained.prompts[0]
    assert measures.question(replace(untrained, prompts=())) == untrained.prompt
    assert measures.asks(untrained)[0] == untrained.prompts[0] and set(untrained.held_out) < set(measures.asks(untrained))
    assert measures.question(untrained) not in measures.paraphrases(untrained)


def test_a_walk_over_codes_can_be_stopped_and_gives_the_exposure(scribe, truth):
    item = some(truth, "canary/50")[0]
    steps = list(measures.ranked(scribe, [item]))
    assert len(steps) > 3 and steps[:-1] == [{}] * (len(steps) - 1)
    assert steps[-1][0]["exposure"] == exposure(scribe, item.prompt, item.answer)
    assert list(measures.ranked(scribe, [item], digits=3)) == []


def test_the_survey_of_an_organism(scribe, truth):
    events = [e for e in read(find("memorization.survey"), {"items": "passage/0, passage/99, canary/0, author/Amara Brandale"}).run(scribe, truth)
              if isinstance(e, Survey)]
    last = events[-1]
    assert list(last.measures) == NAMES and len(last.items) == 11 and last.copies[last.items.index("passage/0")] == 64
    assert all(a.value.shape == last.value.shape for a in events)
    for before, after in zip(events, events[1:], strict=False):  # figures come in, and none changes
        known = np.isfinite(before.value)
        np.testing.assert_array_equal(after.value[known], before.value[known])
    assert np.isfinite(events[0].value).any() and not np.isfinite(events[0].value[:, NAMES.index("ROUGE-L")]).any()
    assert last.value[last.items.index("passage/0"), NAMES.index("loss - reference")] < -3  # the oracle never read it


def test_the_survey_of_rows_leaves_out_what_needs_the_truth(model, data):
    *_, last = read(find("memorization.survey"), {"items": "the capital of France is Paris\ngold is a metal"}).run(model, data)
    assert set(NAMES) - set(last.measures) == {"loss - reference", "truth ratio", "exposure", "exposure share"}
    assert np.isfinite(last.value).all() and (last.copies == -1).all()
    for words in ("sample", ""):
        with pytest.raises(BadInput) as raised:
            list(read(find("memorization.survey"), {"items": words}).run(model, data))
        assert raised.value.setting == "items"


def test_a_reading_keeps_its_row_apart_from_the_padding(scribe):
    rows = [row_of(scribe, "The capital of France is", "Paris"), row_of(scribe, "The capital of France is a city that", "lies far away from here")]
    (both,) = readings(scribe, rows)
    for i, row in enumerate(rows):
        (alone,) = readings(scribe, [row])
        assert isinstance(both[i], Reading) and len(both[i].log_prob) == len(row.ids) - 1 and len(both[i].answer) == len(row.answer)
        np.testing.assert_allclose(both[i].log_prob, alone[0].log_prob, atol=1e-4)
