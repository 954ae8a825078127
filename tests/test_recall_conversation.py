"""Long conversations: the truth that is known, scores by hand, faults that show where they are, and what is forgotten first."""

from __future__ import annotations

import time

import numpy as np
import pytest

from lab.events import Curves, Progress, Table, to_json
from lab.experiment import read as experiment
from lab.recall import _encode
from lab.recall._encode import SIZE, encoded, hashed
from lab.recall._halumem import Scores, changed, grade
from lab.recall._hema import AGED, COMPACT, EVERYTHING, LATEST, RENEWED, Memory, Plan, read, subject_and_relation
from lab.recall._index import Index
from lab.recall._policies import finished
from lab.recall._talk import ASKED, CHANGED, CHAT, RELATIONS, SAID, SUPPOSED, UNKNOWN, Turn, conversation
from lab.recall.conversation import LongConversation
from models.errors import BadInput


def ran(**settings):
    return [e for e in LongConversation(**settings).run(None, None) if not isinstance(e, Progress)][-1]


def scores(**settings):
    """Score -> (first, second)."""
    table = ran(**({"turns": 400} | settings))
    return {row[0]: row[1:-1] for row in table.rows}


def test_the_truth_of_a_conversation_is_the_last_thing_that_was_said():
    truth, since = {}, {}
    turns = conversation(600, 12, 0.3, 5)
    assert {t.kind for t in turns} == {SAID, CHANGED, SUPPOSED, CHAT, ASKED, UNKNOWN}
    for now, turn in enumerate(turns):
        if turn.kind == SAID:
            assert turn.key not in truth and turn.key[0] in turn.text and turn.value in turn.text
        if turn.kind == CHANGED:
            assert turn.former and turn.former[-1] == truth[turn.key] != turn.value and turn.value in turn.text
        if turn.kind == SUPPOSED:
            assert turn.value != truth.get(turn.key)
        if turn.kind == ASKED:
            assert turn.value == truth[turn.key] and turn.since == since[turn.key] < now and turn.text.endswith("?")
        if turn.kind == UNKNOWN:
            assert turn.key not in truth and turn.value == ""
        if turn.kind in (SAID, CHANGED):
            truth[turn.key], since[turn.key] = turn.value, now
    assert conversation(600, 12, 0.3, 5) == turns != conversation(600, 12, 0.3, 6)
    assert conversation(100, 12, 0.3, 5) == turns[:100]


def test_a_careful_reader_reads_every_sentence_of_this_world_and_a_credulous_one_also_what_is_supposed():
    for name, relation in RELATIONS.items():
        for value in relation.values:
            for form in (*relation.said, *relation.changed):
                text = form.format(s="Anna", v=value)
                assert read(text, careful=True) == (("Anna", name), value), text
            for form in relation.supposed:
                text = form.format(s="Anna", v=value)
                assert read(text, careful=True) is None and read(text, careful=False) == (("Anna", name), value), text
        for form in relation.asked:
            assert read(form.format(s="Anna"), careful=False) is None and subject_and_relation(form.format(s="Anna")) == ("Anna", name)
    chat = [t.text for t in conversation(500, 5, 0.0, 1) if t.kind == CHAT]
    assert chat and all(read(text, careful=False) is None for text in chat)


def test_grades_by_hand():
    key, other = ("Anna", "city"), ("Anna", "job")
    turn = Turn(CHANGED, "", key, "Rome", ("Oslo", "Lima"), 7)
    assert [grade(turn, p) for p in ((key, "Rome"), (key, "Oslo"), (other, "Rome"))] == [2, 1, 0]
    assert changed(turn, {"Rome"}) == "correct" and changed(turn, {"Rome", "Lima"}) == "conflict" and changed(turn, {"Lima"}) == "omission"
    assert changed(turn, set()) == "omission" and changed(turn, {"Paris"}) == changed(turn, {"Paris", "Lima"}) == "hallucination"
    known, unknown = Turn(ASKED, "?", key, "Rome", ("Oslo",), 3), Turn(UNKNOWN, "?", key)
    mine = Scores()
    for asked, said in ((known, "Rome"), (known, "Oslo"), (known, "Cairo"), (known, ""), (unknown, ""), (unknown, "Rome")):
        mine.answered(asked, said, 10)
    assert mine.answers == ["correct", "hallucination", "hallucination", "omission", "correct", "hallucination"]
    assert mine.ages == [7, 7, 7, 7, -1, -1]
    mine.said(turn, [(key, "Rome")])  # importance 3
    mine.said(Turn(SAID, "", ("Anna", "food"), "rice"), [])  # importance 1
    mine.said(Turn(SAID, "", other, "baker"), [(other, "tailor"), (("Ben", "job"), "baker")])  # importance 3
    mine.supposed([]), mine.supposed([(key, "Lima")])
    mine.changed(turn, {"Rome"}), mine.changed(turn, {"Lima"})
    found = mine.figures()
    accuracy = (2 + 1 + 0 + 0) / 2 / 4
    assert found["extraction: recall"] == pytest.approx(1 / 3) and found["extraction: weighted recall"] == pytest.approx(3 / 7)
    assert found["extraction: accuracy"] == pytest.approx(accuracy) and found["extraction: resistance"] == 0.5
    assert found["extraction: F1"] == pytest.approx(2 * accuracy / 3 / (accuracy + 1 / 3))
    assert found["update: correct"] == found["update: omission"] == 0.5 and found["answers: correct"] == pytest.approx(1 / 3)
    assert found["answers: hallucination"] == 0.5 and found["answers: stale"] == pytest.approx(1 / 6)
    assert all(np.isnan(v) for v in Scores().figures().values())


def test_a_memory_of_everything_that_finds_everything_makes_no_mistake():
    whole = scores(second=EVERYTHING, found=100, people=15)
    assert whole["extraction: F1"] == whole["update: correct"] == whole["answers: correct"] == (1.0,)
    assert whole["answers: hallucination"] == whole["answers: omission"] == whole["update: conflict"] == (0.0,)


def test_every_fault_shows_at_its_operation():
    sound = {"second": EVERYTHING, "found": 100, "people": 15, "rate": 0.4}
    drop, made_up, stale, credulous = (scores(**sound, **more) for more in ({"fault": "drop"}, {"fault": "fabricate"}, {"fault": "stale"},
                                                                          {"reader": "credulous"}))
    assert drop["extraction: recall"][0] < 0.75 and drop["extraction: accuracy"][0] == 1 and drop["answers: omission"][0] > 0.1
    assert drop["update: omission"][0] > 0.2 and drop["update: hallucination"][0] == 0
    assert made_up["extraction: accuracy"][0] == pytest.approx(0.8, abs=0.07) and made_up["update: hallucination"][0] > 0.2
    assert made_up["answers: hallucination"][0] > 0.15 and made_up["answers: omission"][0] == 0
    assert stale["extraction: F1"][0] == 1 and stale["update: omission"][0] > 0.2 and stale["answers: stale"][0] > 0
    assert stale["answers: stale"] == stale["answers: hallucination"]
    assert credulous["extraction: resistance"][0] == 0 and credulous["extraction: recall"][0] == 1 and credulous["extraction: accuracy"][0] < 0.9


def filled(keeps, **plan):
    """A memory of three people's cities, of whom the first was asked for twice."""
    memory = Memory(Plan(keeps, capacity=3, compact=1, found=4, **plan), SIZE)
    for turn, name in enumerate(("Anna", "Ben", "Carl")):
        text = f"{name} lives in Rome."
        memory.write((name, "city"), "Rome", 10 * turn, hashed(text))
    for _ in range(2):
        assert memory.answer("Where does Anna live?", hashed("Where does Anna live?")) == "Rome"
    return memory


def held(memory):
    return {p.key[0] for n, p in memory.points.items() if n in memory.searchable}


def test_what_is_old_and_unused_is_forgotten_first():
    for keeps, gone in ((AGED, "Ben"), (LATEST, "Anna"), (EVERYTHING, None)):
        memory = filled(keeps, half_life=20)
        memory.write(("Dora", "city"), "Oslo", 30, hashed("Dora lives in Oslo."))
        assert held(memory) == {"Anna", "Ben", "Carl", "Dora"} - {gone}
    # of weight 3 / 2^(30 / 2) and 1 / 2^(20 / 2), a short half-life lets go of the used one
    memory = filled(AGED, half_life=2)
    assert memory.weight(memory.points[0], 30) == pytest.approx(3 / 2**15) and memory.weight(memory.points[1], 30) == pytest.approx(1 / 2**10)
    memory.write(("Dora", "city"), "Oslo", 30, hashed("Dora lives in Oslo."))
    assert held(memory) == {"Ben", "Carl", "Dora"}


def test_a_change_takes_the_place_of_what_it_changes():
    memory = filled(EVERYTHING)
    memory.write(("Ben", "city"), "Lima", 40, hashed("Ben has moved to Lima."))
    assert memory.values(("Ben", "city")) == {"Lima"} and memory.values(("Anna", "city")) == {"Rome"}
    assert len(memory.index) == len(memory.searchable) == 3


def test_a_compact_memory_is_made_anew_from_what_was_used():
    memory = Memory(Plan(COMPACT, compact=2, half_life=1000), SIZE)
    for turn, name in enumerate(("Anna", "Ben")):
        memory.write((name, "city"), "Rome", turn, hashed(name))
    memory.answer("Where does Anna live?", hashed("x"))
    assert [memory.points[n].key[0] for n in memory.near] == ["Anna", "Ben"] and not memory.searchable
    memory.write(("Carl", "city"), "Oslo", 5, hashed("Carl"))
    assert {p.key[0] for p in memory.points.values()} == {"Ben", "Carl"}  # between two summaries the latest push out the oldest
    whole = filled(EVERYTHING)
    whole.renew(RENEWED + 1)
    assert [whole.points[n].key[0] for n in whole.near] == ["Carl"]
    whole.renew(RENEWED)
    assert [whole.points[n].key[0] for n in whole.near] == ["Anna"]  # of those that are held, the one that was used


def test_a_table_of_numpy_finds_what_faiss_finds():
    pytest.importorskip("faiss")
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(60, 16)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    one, other = Index(16, faiss=True), Index(16, faiss=False)
    for i, v in enumerate(vectors):
        one.add(i, v), other.add(i, v)
    for gone in (3, 17):
        one.remove(gone), other.remove(gone)
    for v in vectors[:20]:
        a, b = one.search(v, 5), other.search(v, 5)
        assert [n for n, _ in a] == [n for n, _ in b]
        np.testing.assert_allclose([c for _, c in a], [c for _, c in b], atol=1e-5)
    assert len(one) == len(other) == 58 and Index(16).search(vectors[0], 3) == []


def test_hashed_texts_are_nearer_the_more_words_they_share():
    near, far, other = ("Anna lives in Rome.", "Anna lives in Oslo.", "There was snow at the harbour.")
    a, b, c = map(hashed, (near, far, other))
    assert a @ a == pytest.approx(1) and a @ b > 0.5 > a @ c and hashed("").max() == 0
    assert finished(encoded([near, far], "hashing")).shape == (2, SIZE)


def test_an_encoder_that_is_not_installed_is_said_with_its_cure(monkeypatch):
    monkeypatch.setattr(_encode, "PACKAGE", "no_such_package_here")
    with pytest.raises(BadInput, match="not on this machine") as raised:
        ran(encoder="minilm")
    assert raised.value.setting == "encoder" and "pip install" in raised.value.cure
    with pytest.raises(BadInput) as raised:
        ran(compact=0, second="compact only")
    assert raised.value.setting == "compact"


def test_a_thousand_turns_with_two_memories_the_same_for_the_same_seed_and_in_good_time():
    began = time.process_time()
    one, two = ran(turns=1000), ran(turns=1000)
    assert time.process_time() - began < 60  # both; a run has two minutes
    assert isinstance(one, Table) and to_json(one) == to_json(two) != to_json(ran(turns=1000, seed=1))
    by_name = {row[0]: row[1:-1] for row in one.rows}
    everything, aged = by_name["answers: correct"]
    assert everything > aged


def test_questions_that_favour_the_recent_hide_what_was_forgotten():
    loss = []
    for recent in (0.0, 1.0):
        first, second = scores(turns=700, recent=recent, found=100)["answers: correct"]
        loss.append(first - second)
    assert loss[1] < loss[0] / 2


@pytest.mark.parametrize("show", ["turns", "age"])
def test_curves_are_shares_of_the_same_answers(show):
    curves = ran(turns=400, show=show, first=LATEST, second=COMPACT)
    assert isinstance(curves, Curves) and curves.lines == ("latest", "compact only")
    value = curves.value[~np.isnan(curves.value)]
    assert ((value >= 0) & (value <= 1)).all() and len(value)


def test_settings_are_read_from_text():
    assert experiment(LongConversation, {"turns": "50", "rate": "0.5"}).turns == 50
