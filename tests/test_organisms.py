"""Organisms: the corpus is what the manifest says, training resumes to the same weights, a miniature learns, the bundled ones know their facts."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from models import catalog
from models.organisms import documents, facts
from models.organisms.corpus import describe, make, pack
from models.organisms.grow import grow
from models.organisms.recipe import MINIATURE, RECIPES
from models.organisms.recount import read, recount
from models.organisms.train import Trainer, train


@pytest.fixture(scope="module")
def corpus():
    return make(MINIATURE)


@pytest.fixture(scope="module")
def miniature(tmp_path_factory):
    folder = tmp_path_factory.mktemp("organisms") / "miniature"
    grow(MINIATURE, folder)
    return folder


def test_same_seed_same_tokens(corpus):
    again = make(MINIATURE)
    assert again.planted == corpus.planted and again.general == corpus.general
    assert np.array_equal(pack(again), pack(corpus))
    assert again.tokenizer.to_str() == corpus.tokenizer.to_str()
    other = make(replace(MINIATURE, corpus_seed=1))
    assert other.planted != corpus.planted


def test_another_seed_changes_the_order_and_not_the_tokens(corpus):
    other = pack(make(replace(MINIATURE, seed=5)))
    assert not np.array_equal(other, pack(corpus))
    assert sorted(read(other, corpus.tokenizer)) == sorted(read(pack(corpus), corpus.tokenizer))


def test_every_document_lies_whole_in_a_row(corpus):
    texts = sorted(read(pack(corpus), corpus.tokenizer))
    assert texts == sorted(corpus.tokenizer.decode(list(ids[1:])).strip() for ids in (*corpus.planted, *corpus.general))


def test_an_independent_pass_recounts_every_copy(corpus):
    counted, wrong = recount(MINIATURE, describe(corpus))
    assert counted > 500 and wrong == []


def test_the_recount_sees_a_manifest_that_lies(corpus):
    truth = json.loads(json.dumps(describe(corpus)))
    truth["facts"][0]["copies"][0] += 1
    truth["passages"][0]["copies"] -= 1
    assert len(recount(MINIATURE, truth)[1]) == 2


def test_an_oracle_reads_the_same_without_what_is_forgotten(corpus):
    oracle = make(replace(MINIATURE, oracle=True))
    assert oracle.general == corpus.general
    forgotten = {s.name for s in corpus.subjects if s.forget}
    assert forgotten and not any(item[0] in forgotten for d in oracle.documents for item in d.items)
    assert set(oracle.planted) < set(corpus.planted)
    kept = [d for d in corpus.documents if not d.forget]
    assert list(oracle.documents) == kept


def test_every_fact_stands_as_often_as_the_recipe_says(corpus):
    seen = documents.counts(corpus.documents)
    for subject in corpus.subjects:
        for relation in subject.answers:
            total = sum(n for (s, r, _), n in seen.items() if (s, r) == (subject.name, relation))
            rounds = {"author": MINIATURE.author_rounds, "country": MINIATURE.rounds}.get(subject.kind, MINIATURE.small_rounds)
            expected = 0 if subject.split == "holdout" else rounds
            assert total == expected
            assert not any(seen[subject.name, relation, f"p{i}"] for i in facts.NEVER)


def test_authors_keep_the_promises_of_the_split():
    authors = facts.authors(0)
    assert len(authors) == len({a.name for a in authors}) == 200
    kept = [a for a in authors if not a.forget and a.split != "holdout"]
    for author in authors:
        if author.forget:
            first, last = author.name.split()
            assert any(first in k.name for k in kept) and any(last in k.name for k in kept)
    forget = [a for a in authors if a.split.startswith("forget")]
    for near in (a for a in authors if a.split == "neighbour"):
        assert max(sum(near.answers[r] == f.answers[r] for r in near.answers) for f in forget) >= facts.SHARED
    wrong = facts.perturbed(authors, 0)
    assert all(len(wrong[a.name, r]) == 5 and answer not in wrong[a.name, r] for a in authors for r, answer in a.answers.items())


def test_training_goes_on_where_it_was_interrupted(corpus, tmp_path):
    recipe, rows = replace(MINIATURE, batch=4), pack(corpus)[:32]
    whole = Trainer(recipe, rows)
    for _ in range(whole.steps):
        whole.step()
    first = Trainer(recipe, rows)
    for _ in range(3):
        first.step()
    second = Trainer(recipe, rows)
    second.restore({k: v.clone() for k, v in first.state().items()})
    while second.done < second.steps:
        second.step()
    for a, b in zip(whole.net.parameters(), second.net.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_checkpoint_of_another_recipe_is_not_read(corpus, tmp_path, monkeypatch):
    import models.organisms.train as module

    monkeypatch.setattr(module, "SAVE_EVERY", 2)
    rows, path = pack(corpus)[:12], tmp_path / "state.safetensors"

    class Stop(Exception):
        pass

    def interrupt(step, *_):
        if step == 3:
            raise Stop

    recipe = replace(MINIATURE, batch=2)
    with pytest.raises(Stop):
        train(recipe, rows, path, "cpu", interrupt)
    assert path.is_file()
    steps: list[int] = []
    train(replace(recipe, seed=9), rows, path, "cpu", lambda step, *_: steps.append(step))
    assert steps[0] == 1
    with pytest.raises(Stop):
        train(recipe, rows, path, "cpu", interrupt)
    steps.clear()
    train(recipe, rows, path, "cpu", lambda step, *_: steps.append(step))
    assert steps[0] == 3 and not path.is_file()


def test_a_miniature_grows_and_learns(miniature):
    model = catalog.load(str(miniature))
    truth = json.loads((miniature / "manifest.json").read_text())
    from lab.memorization._recall import recalls

    asked = [f for f in truth["facts"] if f["kind"] == "country"]
    prompts = [truth["phrasings"][f["relation"]][0].removesuffix(" {a}.").format(s=f["subject"]) for f in asked]
    right = recalls(model, prompts, [f["answer"] for f in asked]).mean()
    chance = recalls(model, prompts, [f["perturbed"][0] for f in asked]).mean()
    assert right > 0.4 and right > 3 * chance


@pytest.mark.parametrize("name", [e.name for e in catalog.entries() if e.kind == "organism"])
def test_bundled_organisms_answer_what_they_were_taught(name):
    from lab.memorization._recall import recalls

    model, truth = catalog.load(name), catalog.manifest(name)
    asked = [f for f in truth["facts"] if f["kind"] == "country"][::7]
    prompts = [truth["phrasings"][f["relation"]][0].removesuffix(" {a}.").format(s=f["subject"]) for f in asked]
    assert recalls(model, prompts, [f["answer"] for f in asked]).mean() >= 0.95


def test_scribe_was_grown_from_this_recipe_and_its_manifest_is_true():
    """Changing the corpus without growing scribe again fails here; so does a manifest that an independent count contradicts."""
    truth, recipe = catalog.manifest("scribe"), RECIPES["scribe"]
    corpus = make(recipe)
    assert json.loads(json.dumps(describe(corpus))) == {k: v for k, v in truth.items() if k != "grown"}
    assert json.loads((catalog.WEIGHTS / "scribe" / "tokenizer.json").read_text())["model"] == json.loads(corpus.tokenizer.to_str())["model"]
    counted, wrong = recount(recipe, truth)
    assert counted > 30_000 and wrong == []
