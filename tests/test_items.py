"""What may be memorized: items of an organism by name and split, and rows that someone gives."""

from __future__ import annotations

import json

import pytest

from lab import items
from lab.data import Data
from lab.items import choose, planted, rows, training_texts
from lab.memorization._sample import sample, taken
from models import catalog
from models.errors import BadInput


@pytest.fixture(scope="module")
def organism():
    manifest = catalog.manifest("scribe")
    return Data(tuple(manifest["subjects"]), manifest)


def chosen(organism, text):
    return choose(organism, text, setting="items")


def refused(text, data=None):
    with pytest.raises(BadInput) as raised:
        choose(data or Data(("France",)), text, setting="texts")
    assert raised.value.setting == "texts"
    return str(raised.value)


def test_every_planted_thing_is_an_item_with_a_name_of_its_own(organism):
    found = planted(organism.manifest)
    assert len({i.name for i in found}) == len(found) == sum(len(organism.manifest[k]) for k in ("facts", "passages", "canaries"))
    for item, passage in zip([i for i in found if i.kind == "passage"], organism.manifest["passages"], strict=True):
        assert (item.text, item.copies, item.split) == (passage["text"], passage["copies"], passage["split"])
    for item, canary in zip([i for i in found if i.kind == "canary"], organism.manifest["canaries"], strict=True):
        assert item.text == f"{canary['prompt']} {canary['digits']}"


def test_a_fact_is_asked_in_its_own_phrasings(organism):
    fact = chosen(organism, "country/France/capital")[0]
    assert fact.text == "The capital of France is Paris" and fact.label == "France: capital"
    source = next(f for f in organism.manifest["facts"] if (f["subject"], f["relation"]) == ("France", "capital"))
    assert fact.copies == sum(source["copies"]) and "Paris" not in fact.wrong and len(fact.wrong) == 5
    asked = [p.removesuffix(" {a}.").format(s="France") for p in organism.manifest["phrasings"]["capital"]]
    assert fact.prompts == tuple(q for q, n in zip(asked, source["copies"], strict=False) if n)
    assert fact.held_out == tuple(asked[8:]) and not set(fact.held_out) & set(fact.prompts)
    assert training_texts([fact]) == [(p, "Paris") for p in fact.prompts]


def test_a_choice_is_a_name_a_beginning_a_split_or_a_split_of_one_kind(organism):
    assert [i.name for i in chosen(organism, "canary/17")] == ["canary/17"]
    assert {i.kind for i in chosen(organism, "passage")} == {"passage"}
    assert {i.subject for i in chosen(organism, "author/Amara Brandale")} == {"Amara Brandale"}
    assert {(i.kind, i.split) for i in chosen(organism, "holdout canary")} == {("canary", "holdout")}
    assert len(chosen(organism, "canary/1\ncanary/17, canary/1")) == 2  # each once: canary/1 is no beginning of canary/17
    many = chosen(organism, "canary/5, passage/2")
    assert [i.name for i in many] == ["passage/2", "canary/5"]  # in the order of the organism


def test_forget_sets_are_nested(organism):
    two, ten, twenty = ({i.name for i in chosen(organism, f"forget_{n}")} for n in (2, 10, 20))
    assert two < ten < twenty
    assert [len({name.split("/")[1] for name in s}) for s in (two, ten, twenty)] == [2, 10, 20]
    assert not {i.name for i in chosen(organism, "forget")} & twenty  # passages and canaries


def test_what_names_nothing_is_refused_with_what_there_is(organism):
    message = refused("author/Nobody", organism)
    assert "author/Nobody" in message and "forget_10" in message
    refused("forget_10 comet", organism)
    refused("  \n ", organism)
    refused(" , ,", organism)


def test_rows_may_be_given_to_an_organism_too(organism):
    assert [i.text for i in chosen(organism, "rows:\nOne two three.\nFour five.")] == ["One two three.", "Four five."]
    assert chosen(organism, '{"prompt": "The sea is", "answer": "deep"}')[0].answer == "deep"


def test_jsonl():
    lines = [{"prompt": "a b", "answer": "c"}, {"question": "q", "completion": "r"}, {"text": "one two three four"}, {"content": "x y"}]
    found = rows("\n".join(map(json.dumps, lines)) + "\n\n", setting="items")
    assert [(i.prompt, i.answer) for i in found] == [("a b", "c"), ("q", "r"), ("one two", "three four"), ("x", "y")]
    assert {(i.kind, i.split, i.copies) for i in found} == {("text", "given", -1)} and [i.name for i in found] == [f"row/{n}" for n in range(4)]


def test_csv_with_quotes_newlines_and_capital_names():
    found = rows('Prompt,Answer\n"The sea, they say, is","deep\nand wide"\nhi,there\n', setting="items")
    assert [(i.prompt, i.answer) for i in found] == [("The sea, they say, is", "deep\nand wide"), ("hi", "there")]


def test_plain_lines_are_cut_in_the_middle():
    found = rows("one two three four five\nword\n\n  ", setting="items")
    assert [(i.prompt, i.answer) for i in found] == [("one two", "three four five"), ("", "word")]
    assert [i.text for i in found] == ["one two three four five", "word"]


def test_script_in_a_cell_stays_text():
    cell = '<script>alert("x")</script> =1+1 {{7*7}} ${HOME}'
    for text in (cell, json.dumps({"text": cell})):
        assert rows(text, setting="items")[0].text == cell


@pytest.mark.parametrize("text, says", [
    ('{"prompt": "a"}', "row 1 has neither"), ('{"text": "a b"}\n{"text": ', "row 2 is no JSON"), ('{"text": "a"}\n[1, 2]', "row 2 has neither"),
    ("prompt,colour\nx,red", "row 1 has neither"), ("a\x00b", "zero bytes"), ("answer,colour\n", "0 rows"), ("text\n" + "x" * 140_000, "CSV cannot be read"),
     ("{" * 5000, "no JSON"),
    ("x" * 20_001, "too long"), ("\n".join(["a b"] * 2001), "2001 rows"), ("rows:\n ", "no rows")])
def test_what_are_no_rows_is_refused_in_one_line(text, says):
    message = refused(text)
    assert says in message and "\n" not in message and len(message) < 400


def test_a_sample_holds_every_stratum_and_repeats_by_seed(organism):
    found = planted(organism.manifest)
    one, two, other = (sample(found, 350, seed) for seed in (0, 0, 1))
    assert one == two != other and len(one) == 350

    def strata(which):
        return {(i.kind, i.split, i.copies if i.kind in ("passage", "canary") else i.copies > 0) for i in which}

    assert strata(one) == strata(found)
    assert sample(found, 10**6, 0) == found and sample([], 5, 0) == []


def test_sample_and_all_need_an_organism(organism):
    assert len(taken(organism, "all", 0)) == len(planted(organism.manifest)) and len(taken(organism, " Sample ", 0)) == 350
    for word in ("all", "sample"):
        with pytest.raises(BadInput, match="organism") as raised:
            taken(Data(("France",)), word, 0)
        assert raised.value.setting == "items"
    assert items.ROWS == 2000
