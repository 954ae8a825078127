"""Retrieval memories: nearest neighbours and mixtures by hand, lam 0 is the model alone, what imitates begins as what it says it does."""

import math
from dataclasses import replace

import pytest
import torch

from lab.data import Data
from lab.recall._retrieval_learn import entries, heard, retriever, students, table_of, usual_distance
from lab.recall._retrieval_texts import OTHERS, texts
from lab.recall.retrieval import Retrieval
from models import catalog
from models.errors import BadInput
from models.memory.imitation import MemoryDecoder, MLPMemory, imitation
from models.memory.knn_lm import Neighbours, Store, mixed, search
from models.organisms import facts

STORE = Store(torch.tensor([[0.0, 0.0], [1.0, 0.0], [3.0, 0.0], [0.0, 2.0]]), torch.tensor([5, 7, 7, 2]))


@pytest.fixture(scope="module")
def scribe():
    return catalog.load("scribe")


def last(run):
    return [found for found in run if found is not None][-1]


def test_the_nearest_entries_and_their_shares_by_hand():
    found = search(STORE, torch.tensor([[1.0, 0.0]]), near=3, temperature=2.0)  # squared distances 1, 0, 4, 5
    weights = [math.exp(-d / 2) for d in (0, 1, 4)]
    odds = found.odds(8)[0]
    assert found.tokens[0].tolist() == [7, 5, 7]
    assert odds[7].item() == pytest.approx((weights[0] + weights[2]) / sum(weights)) and odds[5].item() == pytest.approx(weights[1] / sum(weights))
    assert odds[2] == 0 and odds.sum().item() == pytest.approx(1)
    assert found.of(torch.tensor([7])).item() == pytest.approx(odds[7].item()) and found.of(torch.tensor([2])).item() == 0


def test_exact_search_is_a_plain_sort():
    generator = torch.Generator().manual_seed(0)
    store = Store(torch.randn(90, 6, generator=generator), torch.randint(0, 9, (90,), generator=generator))
    queries = torch.randn(40, 6, generator=generator)
    found = search(store, queries, 5, 3.0).odds(9)
    for query, odds in zip(queries, found, strict=True):
        distance = [float((query - key).square().sum()) for key in store.keys]
        nearest = sorted(range(90), key=distance.__getitem__)[:5]
        weight = [math.exp(-distance[i] / 3) for i in nearest]
        expected = torch.zeros(9)
        for i, w in zip(nearest, weight, strict=True):
            expected[store.values[i]] += w / sum(weight)
        assert torch.allclose(odds, expected, atol=1e-4)


def test_a_store_that_is_asked_about_itself_leaves_the_entry_out():
    found = retriever(STORE, near=1, temperature=1.0)
    assert found.tokens[:, 0].tolist() == [7, 5, 7, 5]  # each one's nearest other
    assert usual_distance(STORE) == pytest.approx(1.0)  # squared distances to it 1, 1, 4, 4; the median is the lower middle one
    with pytest.raises(BadInput, match="store is empty"):
        search(Store(STORE.keys[:1], STORE.values[:1]), STORE.keys[:1], 1, 1.0, own=torch.tensor([0]))


def test_mixtures_by_hand_and_lam_0_is_the_model_itself():
    base, memory = torch.tensor([0.2, 0.5]).log(), torch.tensor([0.6, 0.0])
    assert torch.allclose(mixed(base, memory, 0.25).exp(), torch.tensor([0.75 * 0.2 + 0.25 * 0.6, 0.75 * 0.5]))
    assert mixed(base, memory, 0.0) is base


def test_the_loss_by_hand():
    logits, target = torch.log(torch.tensor([[0.5, 0.25, 0.25]])), torch.tensor([0])
    near = Neighbours(torch.tensor([[1, 2]]), torch.tensor([[0.5, 0.5]]))
    divergence = 2 * 0.5 * math.log(0.5 / 0.25)  # KL of (0, .5, .5) to (.5, .25, .25)
    assert imitation(logits, near, target, 1.0).item() == pytest.approx(divergence)
    assert imitation(logits, near, target, 0.5).item() == pytest.approx((divergence + math.log(2)) / 2)
    assert imitation(logits, near, target, 0.0).item() == imitation(logits, None, target, 0.7).item() == pytest.approx(math.log(2))


def test_mlp_memory_begins_as_the_model_and_the_decoder_sees_no_future(scribe):
    net, ids = scribe.skeleton(), torch.tensor([[5, 9, 2, 14, 30, 8]])
    with torch.no_grad():
        out = net(input_ids=ids, output_hidden_states=True)
        made = MLPMemory(table_of(net), 8, 2)(out.hidden_states[-1])
        assert torch.allclose(made.log_softmax(-1), out.logits.log_softmax(-1), atol=1e-4)
        decoder, other = MemoryDecoder(table_of(net), 1), ids.clone()
        other[0, 4:] = 3
        assert torch.allclose(decoder(ids)[:, :4], decoder(other)[:, :4], atol=1e-5)
        assert not torch.allclose(decoder(ids)[:, 4:], decoder(other)[:, 4:], atol=1e-2)


def test_imitator_and_control_begin_alike_and_are_made_again_from_the_seed(scribe):
    table = table_of(scribe.net)
    one, two = students(table, 0.5, 3), students(table, 0.5, 3)
    assert [s.share for s in one] == [0.5, 0.0, 0.5, 0.0]
    for a, b in ((one[0], one[1]), (one[2], one[3]), (one[0], two[0])):
        assert all(torch.equal(p, q) for p, q in zip(a.net.parameters(), b.net.parameters(), strict=True))
    assert one[2].bytes == sum(4 * p.numel() for p in one[2].net.parameters())


def test_documents_are_new_and_those_measured_are_not_in_the_store(scribe):
    found = texts(scribe.tokenizer, 6, 2, 0)
    everyone = {a.name for seed in (OTHERS, 4 * OTHERS) for a in facts.authors(seed)}
    names = [{name for name in everyone if any(name in scribe.tokenizer.decode(row.tolist()) for row in part.ids)} for part in (found.store, found.others)]
    assert len(names[0]) == len(names[1]) == 6 and not names[0] & names[1]
    known, said = {a.name for a in facts.authors(0)}, [scribe.tokenizer.decode(row.tolist()) for row in found.held.ids]
    assert not any(name in text for text in said for name in known)
    stored = {tuple(row[: int(counted.sum()) + 1].tolist()) for row, counted in zip(found.store.ids, found.store.counted, strict=True)}
    held = [tuple(row[: int(counted.sum()) + 1].tolist()) for row, counted in zip(found.held.ids, found.held.counted, strict=True)]
    assert held and not any(row in stored for row in held)


def test_a_store_has_one_entry_a_predicted_token_and_finds_what_it_was_made_of(scribe):
    rows = texts(scribe.tokenizer, 2, 1, 0).store
    store = entries(rows, last(heard(scribe.skeleton(), rows)))
    assert store.keys.shape == (int(rows.counted.sum()), scribe.net.config.hidden_size) and torch.equal(store.values, rows.target)
    again = search(store, store.keys, 1, 1.0).of(store.values)
    assert again.mean() > 0.95  # each is its own nearest; tokens before which all is alike may differ


def test_with_lam_0_every_memory_leaves_the_perplexity_as_it_was(scribe):
    quick = Retrieval(authors=2, rounds=1, steps=1, lam=0.0)
    *_, table = quick.run(scribe, Data(()))
    *memories, tuned = table.rows
    assert len(memories) == 7 and len({row[1] for row in memories}) == len({row[2] for row in memories}) == 1
    assert tuned[1] < memories[0][1] and tuned[3] == sum(4 * p.numel() for p in scribe.net.parameters())
    *_, mixture = replace(quick, lam=0.4, steps=0).run(scribe, Data(()))
    alone, knn, others = mixture.rows
    assert alone[1:3] == table.rows[0][1:3] and knn[1] < min(alone[1], others[1])
