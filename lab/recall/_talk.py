"""A conversation by rules, every truth of which is known."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from models.organisms import prose_words as words

SAID, CHANGED, SUPPOSED, CHAT, ASKED, UNKNOWN = "said", "changed", "supposed", "chat", "asked", "asked, never said"
SHARES = ((SAID, 0.26), (CHANGED, 0.12), (SUPPOSED, 0.08), (CHAT, 0.28), (ASKED, 0.2), (UNKNOWN, 0.06))
CITIES = "Oslo Rome Lima Paris Cairo Quito Delhi Tunis Dakar Seoul Riga Sofia Vienna Madrid Athens Lisbon".split()
INSTRUMENTS = "violin flute cello harp piano guitar oboe banjo organ tuba".split()
MONTHS = "January February March April May June July August September October November December".split()


@dataclass(frozen=True)
class Relation:
    """`said`, `changed` and `supposed` hold {s} and {v}, `asked` {s}. `marks` are words by which a reader knows the relation; `weight` its importance."""

    said: tuple[str, ...]
    changed: tuple[str, ...]
    supposed: tuple[str, ...]
    asked: tuple[str, ...]
    values: tuple[str, ...]
    marks: tuple[str, ...]
    weight: int


RELATIONS = {
    "city": Relation(("{s} lives in {v}.", "{s} has a flat in {v}."), ("{s} has moved to {v}.", "{s} lives in {v} now."),
                     ("If {s} ever moved to {v}, nobody would be surprised.", "I dreamt that {s} had a flat in {v}."),
                     ("Where does {s} live?", "To which city has {s} moved last?"), tuple(CITIES), ("lives", "live", "flat", "moved", "city"), 3),
    "job": Relation(("{s} works as a {v}.", "The job of {s} is that of a {v}."), ("{s} has a new job as a {v}.", "{s} works as a {v} these days."),
                    ("{s} would rather have the job of a {v}.", "Suppose {s} took a job as a {v}."), ("What is the job of {s}?", "What does {s} work as?"),
                    tuple(words.TRADES), ("works", "work", "job"), 3),
    "pet": Relation(("{s} keeps a {v} as a pet.", "The pet of {s} is a {v}."), ("{s} has another pet now, a {v}.", "These days {s} keeps a {v}."),
                    ("A {v} would be too much of a pet for {s}.", "I wonder whether {s} might want a pet {v}."),
                    ("Which pet does {s} keep?", "What animal is the pet of {s}?"), tuple(words.BEASTS), ("keeps", "keep", "pet"), 2),
    "food": Relation(("{s} likes {v} best of all food.", "The favourite food of {s} is {v}."), ("{s} now likes {v} best.", "{s} has a new favourite food, "
                                                                                                "{v}."),
                     ("Perhaps {s} likes {v}, who knows.", "I dreamt that {s} ate nothing but {v} as food."),
                     ("Which food does {s} like best?", "What is the favourite food of {s}?"), tuple(words.FOODS), ("likes", "like", "favourite", "food"), 1),
    "instrument": Relation(("{s} plays the {v}.", "The instrument of {s} is the {v}."), ("{s} plays the {v} now.", "{s} has a new instrument, the {v}."),
                           ("If only {s} played the {v} as an instrument.", "Suppose {s} plays the {v} one day."),
                           ("Which instrument does {s} play?", "What does {s} play?"), tuple(INSTRUMENTS), ("plays", "play", "instrument", "played"), 1),
    "birthday": Relation(("{s} was born in {v}.", "The birthday of {s} is in {v}."), (), ("I dreamt that {s} was born in {v}.",),
                         ("In which month is the birthday of {s}?", "When was {s} born?"), tuple(MONTHS), ("born", "birthday"), 2),
}
CHATTER = ("There was {weather} at the {place} again.", "I felt rather {feeling} {time}.", "Shall we have {dish} tonight?", "I still wonder about {topic}.",
           "I think that {opinion}.", "What a {feeling} day it was!", "Could you remind me about {topic}?")
Key = tuple[str, str]  # subject, relation


@dataclass(frozen=True)
class Turn:
    """`key` and `value` are what is said, supposed or asked; `value` of a question is the right answer, "" where nobody ever said. `former` are the values
    that were true before; `since` is the turn in which the right value was said, -1 where none was."""

    kind: str
    text: str
    key: Key = ("", "")
    value: str = ""
    former: tuple[str, ...] = ()
    since: int = -1


def conversation(turns: int, people: int, recent: float, seed: int) -> list[Turn]:
    """The same seed gives the same conversation; a shorter one is the beginning of a longer one."""
    rng = random.Random(f"conversation {seed}")
    subjects = rng.sample([*words.GIRLS, *words.BOYS], people)
    return list(spoken(rng, turns, subjects, recent))


def spoken(rng: random.Random, turns: int, subjects: list[str], recent: float) -> Iterator[Turn]:
    truth: dict[Key, list[str]] = {}  # all values so far, the last is true
    since: dict[Key, int] = {}
    keys = [(s, r) for s in subjects for r in RELATIONS]
    for turn in range(turns):
        kind = rng.choices([k for k, _ in SHARES], [w for _, w in SHARES])[0]
        open_, changing = [k for k in keys if k not in truth], [k for k in truth if RELATIONS[k[1]].changed]
        if (kind in (SAID, UNKNOWN) and not open_) or (kind == CHANGED and not changing) or (kind == ASKED and not truth):
            kind = CHAT
        if kind == CHAT:
            yield Turn(kind, chatter(rng))
            continue
        late = [k for k in truth if since[k] >= 0.9 * turn]
        pool = {SAID: open_, UNKNOWN: open_, CHANGED: changing, SUPPOSED: keys, ASKED: late if late and rng.random() < recent else list(truth)}[kind]
        key = rng.choice(pool)
        relation, told = RELATIONS[key[1]], truth.get(key, [])
        if kind in (ASKED, UNKNOWN):
            right = told[-1] if told else ""
            yield Turn(kind, rng.choice(relation.asked).format(s=key[0]), key, right, tuple(told[:-1]), since.get(key, -1))
            continue
        value = rng.choice([v for v in relation.values if v not in told[-1:]])
        form = rng.choice({SAID: relation.said, CHANGED: relation.changed, SUPPOSED: relation.supposed}[kind])
        yield Turn(kind, form.format(s=key[0], v=value), key, value, tuple(told), turn)
        if kind != SUPPOSED:
            truth[key], since[key] = [*told, value], turn


def chatter(rng: random.Random) -> str:
    return rng.choice(CHATTER).format(weather=rng.choice(words.WEATHER), place=rng.choice(words.PLACES), feeling=rng.choice(words.FEELINGS),
                                      time=rng.choice(words.TIMES), dish=rng.choice(words.DISHES), topic=rng.choice(words.TOPICS),
                                      opinion=rng.choice(words.OPINIONS))
