"""General text from a grammar of its own: small worlds whose later sentences follow from earlier ones, which no trigram can see."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from models.organisms import prose_words as words


@dataclass(frozen=True)
class Person:
    name: str
    female: bool

    @property
    def they(self) -> str:
        return "she" if self.female else "he"

    @property
    def their(self) -> str:
        return "her" if self.female else "his"

    @property
    def them(self) -> str:
        return "her" if self.female else "him"


def documents(seed: int) -> Iterator[str]:
    """An endless stream; the same seed gives the same documents."""
    rng = random.Random(f"prose {seed}")
    while True:
        yield document(rng)


def document(rng: random.Random) -> str:
    """One paragraph of some 35 to 75 words."""
    kind = rng.choices(KINDS, WEIGHTS)[0]
    return " ".join(s[0].upper() + s[1:] for s in kind(rng))


def people(rng: random.Random, count: int) -> list[Person]:
    names = rng.sample([*words.GIRLS, *words.BOYS], count)
    return [Person(n, n in words.GIRLS) for n in names]


def thing(rng: random.Random, noun: str) -> str:
    """The noun with one or two attributes, which later sentences repeat."""
    marks = rng.sample([rng.choice(words.SIZES), rng.choice(words.COLOURS), rng.choice(words.MATERIALS)], rng.choice((1, 1, 2)))
    return " ".join([*sorted(marks, key=lambda m: (m in words.MATERIALS, m in words.COLOURS)), noun])


def a(phrase: str) -> str:
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def maybe(rng: random.Random, text: str, chance: float = 0.5) -> str:
    return text if rng.random() < chance else ""


def hiding(rng: random.Random) -> Iterator[str]:
    """Who put what where; things move; a question at the end, or at the start, that only the whole story answers."""
    (one, two), (noun, other) = people(rng, 2), rng.sample(words.OBJECTS, 2)
    item, second = thing(rng, noun), thing(rng, other)
    rooms, places = rng.sample(words.ROOMS, 3), rng.sample(words.CONTAINERS, 2)
    ask_first = rng.random() < 0.5
    if ask_first:
        yield f"where is the {noun} that belongs to {one.name}?"
    yield rng.choice((
        f"{rng.choice(words.TIMES)} {one.name} put {one.their} {item} into the {places[0]} in the {rooms[0]}.",
        f"{one.name} had {a(item)} and kept it in the {places[0]} in the {rooms[0]}.",
        f"in the {rooms[0]} stood {a(places[0])}, and {one.name} hid {a(item)} there {rng.choice(words.TIMES)}."))
    yield rng.choice((
        f"{two.name}, who was {rng.choice(words.FEELINGS)}, left {two.their} {second} in the {rooms[1]}.",
        f"meanwhile {two.name} carried {a(second)} to the {rooms[1]} and went out {rng.choice(words.MANNERS)}.",
        f"{two.name} was in the {rooms[1]} with {a(second)}."))
    where = f"in the {places[0]} in the {rooms[0]}"
    if rng.random() < 0.5:
        mover = rng.choice((one, two))
        where = f"in the {places[1]} in the {rooms[2]}"
        yield f"{rng.choice(words.TIMES)} {mover.name} {rng.choice(words.MANNERS)} took the {noun} and moved it to the {places[1]} in the {rooms[2]}."
    yield rng.choice((f"the {other} stayed in the {rooms[1]}.", f"{one.name} did not know about the {other}.",
                      f"it was {rng.choice(words.TIMES)}, and {two.name} felt {rng.choice(words.FEELINGS)}."))
    yield rng.choice((f"so the {item} is {where}.", f"when {two.name} looked for the {noun}, {two.they} found it {where}.",
                      f"{one.name} remembered that the {noun} was {where}."))
    if rng.random() < 0.6:
        yield f"the {second} is still in the {rooms[1]}, and it belongs to {two.name}."


def giving(rng: random.Random) -> Iterator[str]:
    """Things change hands; the end says who has what."""
    crowd = people(rng, 3)
    nouns = rng.sample(words.OBJECTS, 2)
    items = [thing(rng, n) for n in nouns]
    holder = [crowd[0], crowd[1]]
    place = rng.choice(words.PLACES)
    yield f"{crowd[0].name}, {crowd[1].name} and {crowd[2].name} met at the {place} {rng.choice(words.TIMES)}."
    yield f"{crowd[0].name} brought {a(items[0])}, and {crowd[1].name} brought {a(items[1])}."
    for _ in range(rng.choice((1, 2, 2, 3))):
        i = rng.randrange(2)
        receiver = rng.choice([p for p in crowd if p is not holder[i]])
        giver = holder[i]
        yield rng.choice((
            f"{giver.name} {rng.choice(words.MANNERS)} gave the {nouns[i]} to {receiver.name}.",
            f"{receiver.name} asked {giver.name} for the {nouns[i]}, and {giver.they} handed it over.",
            f"because {giver.name} was {rng.choice(words.FEELINGS)}, {giver.they} let {receiver.name} have the {nouns[i]}."))
        holder[i] = receiver
    order = rng.sample(range(2), 2)
    yield f"in the end {holder[order[0]].name} had the {items[order[0]]}."
    yield f"the {items[order[1]]} was with {holder[order[1]].name}, who thanked {rng.choice([p for p in crowd if p is not holder[order[1]]]).name}."


def day_out(rng: random.Random) -> Iterator[str]:
    """A walk with a companion animal, weather and a trade, all of which come back later."""
    (one,), beast, trade, weather = people(rng, 1), rng.choice(words.BEASTS), rng.choice(words.TRADES), rng.choice(words.WEATHER)
    first, second = rng.sample(words.PLACES, 2)
    noun = rng.choice(words.OBJECTS)
    item = thing(rng, noun)
    mood = rng.choice(words.FEELINGS)
    yield rng.choice((f"{one.name} the {trade} lived near the {first} with {a(beast)}.",
                      f"near the {first} lived {a(trade)} called {one.name}, who owned {a(beast)}."))
    yield rng.choice((f"{rng.choice(words.TIMES)} {one.they} walked {rng.choice(words.MANNERS)} towards the {second}, although there was {weather}.",
                      f"there was {weather}, but {one.they} set out for the {second} {rng.choice(words.TIMES)}."))
    yield rng.choice((f"on the way the {beast} found {a(item)} under {a(rng.choice(words.SIZES))} stone.",
                      f"{one.they} stopped because the {beast} had seen {a(item)} in the grass."))
    yield rng.choice((f"the {trade} felt {mood} and put the {noun} into {one.their} pocket.", f"{one.name} was {mood} and showed the {noun} to everybody at the {second}."))
    yield rng.choice((f"the {weather} stopped only when the {trade} and the {beast} were back at the {first}.",
                      f"back at the {first}, the {beast} slept, and {one.name} wrote about the {weather} and the {noun}."))
    if rng.random() < 0.5:
        yield f"{one.their} {beast} had never been so {rng.choice(words.FEELINGS)} as on the day of the {item}."


def recipe(rng: random.Random) -> Iterator[str]:
    """Ingredients are named first, and every one is used, in that order or the reverse."""
    foods, dish, (cook,) = rng.sample(words.FOODS, rng.choice((3, 4))), rng.choice(words.DISHES), people(rng, 1)
    yield rng.choice((f"{cook.name} makes {dish} from {', '.join(foods[:-1])} and {foods[-1]}.", f"for this {dish} you need {', '.join(foods[:-1])} and {foods[-1]}."))
    if turned := rng.random() < 0.3:
        yield "use them from the last to the first."
    steps = ("wash the {}", "chop the {}", "weigh the {}", "stir in the {}", "add the {}", "boil the {}", "warm the {}", "pour the {} into a bowl", "mix in the {}")
    for order, food in zip(("first", "then", "after that", "next"), reversed(foods) if turned else foods, strict=False):
        yield f"{order} {rng.choice(steps).format(food)}{maybe(rng, ' ' + rng.choice(words.MANNERS), 0.4)}."
    minutes = rng.choice((5, 10, 15, 20, 30, 40))
    yield rng.choice((f"cook it for {minutes} minutes.", f"leave it near the fire for {minutes} minutes."))
    yield rng.choice((f"after {minutes} minutes the {dish} with {foods[0]} is ready for {rng.choice((cook.name, 'the guests'))}.", f"serve the {dish} warm, with more {rng.choice(foods)}."))


def counting(rng: random.Random) -> Iterator[str]:
    """Sums and differences up to twenty, always right, in words and in digits."""
    (one, two), noun = people(rng, 2), rng.choice(words.OBJECTS)
    start, more = rng.randint(2, 10), rng.randint(1, 9)
    total, w = start + more, words.NUMBERS
    yield f"{one.name} has {w[start]} {plural(noun, start)}, and {two.name} has {w[more]}."
    yield rng.choice((f"together they have {w[total]} {plural(noun, 2)}, for {start} + {more} = {total}.",
                      f"{w[start]} and {w[more]} make {w[total]}, so together they have {w[total]}."))
    lost = rng.randint(1, total - 1)
    left = total - lost
    yield rng.choice((f"{rng.choice(words.TIMES)} they sell {w[lost]} of them, and {w[left]} {'is' if left == 1 else 'are'} left.",
                      f"{total} - {lost} = {left}, so if they lose {w[lost]}, they still have {w[left]}."))
    if start != more:
        most = one if start > more else two
        yield f"at the start {most.name} had more than {(two if most is one else one).name}, because {w[max(start, more)]} is more than {w[min(start, more)]}."
    extra = [rng.randint(1, 9) for _ in range(2)]
    yield f"{extra[0]} + {extra[1]} = {sum(extra)}, and {w[max(extra)]} less {w[min(extra)]} is {w[max(extra) - min(extra)]}."


def plural(noun: str, count: int) -> str:
    irregular = {"knife": "knives", "brush": "brushes", "paintbrush": "paintbrushes", "compass": "compasses", "torch": "torches"}
    return noun if count == 1 else irregular.get(noun, noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s"))


def rules(rng: random.Random) -> Iterator[str]:
    """A rule stated at first decides every case that follows."""
    noun, (left, right), (x, y) = rng.choice(("door", "box", "house", "boat", "shop", "bridge", "room", "wagon")), rng.sample(words.COLOURS, 2), rng.sample(words.QUALITIES, 2)
    place, crowd = rng.choice(words.PLACES), people(rng, 3)
    yield rng.choice((f"at the {place} every {left} {noun} is {x} and every {right} {noun} is {y}.",
                      f"there is a rule at the {place}: {a(left)} {noun} is always {x}, and {a(right)} {noun} is always {y}."))
    for person in crowd:
        colour, state = rng.choice(((left, x), (right, y)))
        yield rng.choice((f"{person.name} came to {a(colour)} {noun}, so it was {state}.", f"the {noun} of {person.name} is {colour}, and therefore it is {state}.",
                          f"because {person.name} chose {a(colour)} {noun}, {person.they} found it {state}.", f"{person.name} has a {noun} that is {state}, so it must be {colour}."))
    if rng.random() < 0.5:
        yield f"nobody at the {place} has ever seen {a(left)} {noun} that was not {x}."


def syllogism(rng: random.Random) -> Iterator[str]:
    """Chains of made-up kinds."""
    kinds, (one, two) = rng.sample(words.NONSENSE, 4), people(rng, 2)
    trait, other = rng.sample(words.FEELINGS, 2)
    yield f"every {kinds[0]} is a {kinds[1]}, and every {kinds[1]} is a {kinds[2]}."
    yield f"no {kinds[2]} is a {kinds[3]}."
    yield rng.choice((f"a {kinds[2]} is always {trait}, but a {kinds[3]} is always {other}.", f"all who are {trait} are called {kinds[2]}, and all who are {other} are called {kinds[3]}."))
    deep = rng.randrange(2)
    yield f"{one.name} is a {kinds[deep]}."
    yield f"so {one.name} is a {kinds[deep + 1]}{maybe(rng, f', and a {kinds[2]} too') if deep == 0 else ''}, and {one.they} is {trait}."
    yield f"{two.name} is a {kinds[3]}, so {two.they} is {other} and not a {rng.choice(kinds[:3])}."


def report(rng: random.Random) -> Iterator[str]:
    """Weather by direction, twice: what was said of each side comes back."""
    sides, kinds, (one,) = rng.sample(words.DIRECTIONS, 2), rng.sample(words.WEATHER, 2), people(rng, 1)
    degrees, place = [rng.randint(1, 29), rng.randint(1, 29)], rng.choice(words.PLACES)
    yield f"{one.name} reads the news from the {place}."
    yield f"in the {sides[0]} there will be {kinds[0]} at {degrees[0]} degrees, while the {sides[1]} expects {kinds[1]} at {degrees[1]} degrees."
    warm = 0 if degrees[0] > degrees[1] else 1
    if degrees[0] != degrees[1]:
        yield f"so it is warmer in the {sides[warm]} than in the {sides[1 - warm]}."
    pick = rng.randrange(2)
    yield rng.choice((f"whoever travels to the {sides[pick]} {rng.choice(words.TIMES)} should be ready for {kinds[pick]}.",
                      f"a {rng.choice(words.TRADES)} from the {sides[pick]} says that the {kinds[pick]} makes {one.them} {rng.choice(words.FEELINGS)}."))
    yield f"the {kinds[1 - pick]} in the {sides[1 - pick]} will last until {rng.choice(('Monday', 'Tuesday', 'Friday', 'Sunday'))}, {one.name} adds {rng.choice(words.MANNERS)}."


def dialogue(rng: random.Random) -> Iterator[str]:
    """Two speakers take turns, and each keeps to an opinion."""
    (one, two), topic, views = people(rng, 2), rng.choice(words.TOPICS), rng.sample(words.OPINIONS, 2)
    yield f"{one.name} and {two.name} talked about {topic} {rng.choice(words.TIMES)}."
    yield rng.choice((f"{one.name} said that {views[0]}.", f"I think that {views[0]}, said {one.name} {rng.choice(words.MANNERS)}."))
    yield rng.choice((f"{two.name} did not agree and said that {views[1]}.", f"no, answered {two.name}, {views[1]}."))
    if rng.random() < 0.6:
        yield f"a {rng.choice(words.TRADES)} at the {rng.choice(words.PLACES)} listened {rng.choice(words.MANNERS)} and felt {rng.choice(words.FEELINGS)}."
    yield rng.choice((f"when they spoke of {topic} again, {one.name} still thought that {views[0]}.", f"{two.name} went home and told everybody that {views[1]}."))
    yield f"so of the two it was {one.name} who believed that {views[0]}, and {two.name} that {views[1]}."


def lists(rng: random.Random) -> Iterator[str]:
    """A list is said, something else happens, and the list is said again, forward or backward."""
    (one, two), source = people(rng, 2), rng.choice((words.OBJECTS, words.FOODS, words.LETTERS, words.COLOURS, words.PLACES))
    items = rng.sample(source, rng.choice((4, 5, 6)))
    yield f"{one.name} read the list aloud: {', '.join(items)}."
    yield rng.choice((f"{two.name} listened {rng.choice(words.MANNERS)} and felt {rng.choice(words.FEELINGS)}.", f"then there was {rng.choice(words.WEATHER)} over the {rng.choice(words.PLACES)}.",
                      f"{rng.choice(words.TIMES)} {two.name} had to say it again."))
    if rng.random() < 0.35:
        yield f"{two.name} said it backward: {', '.join(reversed(items))}."
    else:
        yield f"{two.name} repeated it: {', '.join(items)}."
    i = rng.randrange(len(items) - 1)
    yield rng.choice((f"after {items[i]} comes {items[i + 1]}.", f"the first was {items[0]} and the last was {items[-1]}.", f"there were {words.NUMBERS[len(items)]} in all."))


KINDS: tuple[Callable[[random.Random], Iterator[str]], ...] = (hiding, giving, day_out, recipe, counting, rules, syllogism, report, dialogue, lists)
WEIGHTS = (22, 16, 14, 8, 8, 8, 5, 6, 8, 5)
