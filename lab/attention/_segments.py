"""A text cut into named segments: every token belongs to one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from models.errors import BadInput

NONE, ROLES, HALVES, THIRDS = "none", "subject, relation, answer", "prompt, answer", "thirds"
QUESTION, SHOTS, PICTURES, MARKED = "context, question", "demonstrations", "picture, words", "marked"
HOW = (NONE, ROLES, HALVES, THIRDS, QUESTION, SHOTS, PICTURES, MARKED)
FIRST, REST = "first token", "rest"
MARK = re.compile(r"\[\[([^\[\]:]*):([^\[\]]*)\]\]")
# how decoders of pictures and words write a picture into their text: the lab's own, Qwen-VL, Gemma 3, and those that have one token for it
PICTURE = re.compile(r"<pic>.*?</pic>|<\|vision_start\|>.*?<\|vision_end\|>|<start_of_image>.*?<end_of_image>|(?:<image>\s*)+", re.DOTALL)
MOST = 12  # segments: of more, the pairs can no longer be read
SETTING = "segments"


@dataclass(frozen=True)
class Source:
    """A text before it is cut. `prompt` letters at its beginning ask, 0 where it is not known; `subject` stands in it, where that is known."""

    name: str
    text: str
    prompt: int = 0
    subject: str = ""


@dataclass(frozen=True)
class Segments:
    """Token t belongs to `names[of[t]]`."""

    names: tuple[str, ...]
    of: tuple[int, ...]


def unmarked(how: str, source: Source) -> tuple[str, tuple[str, ...]]:
    """The text without its marks, and where it is cut by marks, the name of the segment of every letter; else no names.

    A mark is `[[name: text]]`; what stands outside is called "rest".
    """
    if how != MARKED:
        return source.text, ()
    text, names, end = "", [], 0
    for found in MARK.finditer(source.text):
        name, inside = found[1].strip(), found[2].removeprefix(" ")
        if not name or not inside.strip():
            raise BadInput(f"the mark {found[0]!r} has no {'text' if name else 'name'}", "a mark is [[name: text]]", "Fill it in, or take it out",
                           setting=SETTING)
        before = source.text[end : found.start()]
        text += before + inside
        names += [REST] * len(before) + [name] * len(inside)
        end = found.end()
    if not names:
        raise BadInput("no segment is marked in the text", "a mark is [[name: text]]", "Such as: [[subject: France]] has the capital [[answer: Paris]]",
                       setting=SETTING)
    after = source.text[end:]
    text, names = text + after, names + [REST] * len(after)
    if "[[" in text or "]]" in text:
        raise BadInput("a mark in the text is not closed, or has no colon", "a mark is [[name: text]], and none stands in another", setting=SETTING)
    return text, tuple(names)


def cut(how: str, source: Source, spans: Sequence[tuple[int, int]], letters: Sequence[str], subjects: Sequence[str], marker: str, apart: bool) -> Segments:
    """The segments of tokens that cover `spans` of the letters of a text. With `apart` the first token is one of its own, called "first token".

    `letters` are the names that `unmarked` found. A token belongs where its first letter does that is no blank; one without letters, such as a mark of
    the beginning, belongs where the letter after it does. Raises `BadInput` where the text cannot be cut so.
    """
    first = int(apart)
    if how == THIRDS:
        count = len(spans) - first
        if count < 3:
            raise BadInput(f"{len(spans)} tokens cannot be cut into thirds", "each third has a token at least", "Give a longer text", setting=SETTING)
        mine = [FIRST] * first + [f"{('first', 'middle', 'last')[3 * i // count]} third" for i in range(count)]
    else:
        names = list(letters) or named(how, source, subjects, marker)
        mine = [names[place(source.text, a, b)] for a, b in spans]
        wanted = dict.fromkeys(name for name, letter in zip(names, source.text, strict=True) if not letter.isspace() and name != REST)
        lost = [name for name in wanted if name not in mine[first:]]
        if lost:
            name = lost[0]
            raise BadInput(f"the segment {name!r} of {source.name} has no token", "it is the first token, which stands apart" if first and mine[0] == name
                           else "the tokenizer joins its letters with those before", "Put words around it, or let the first token be part of its segment",
                           setting=SETTING)
        mine[:first] = [FIRST] * first
    known = tuple(dict.fromkeys(mine))
    if len(known) > MOST:
        raise BadInput(f"there are {len(known)} segments", f"up to {MOST} can be compared", "Cut the text into fewer", setting=SETTING)
    return Segments(known, tuple(known.index(name) for name in mine))


def place(text: str, begin: int, end: int) -> int:
    """The letter that decides where a token belongs."""
    return next((i for i in range(begin, end) if not text[i].isspace()), min(begin, len(text) - 1))


def named(how: str, source: Source, subjects: Sequence[str], marker: str) -> list[str]:
    """The name of the segment of every letter."""
    text = source.text
    if how == NONE:
        return ["text"] * len(text)
    if how == ROLES:
        begin, end = subject(source, subjects)
        stop = source.prompt or len(text)
        return ["subject" if begin <= i < end else "answer" if i >= stop else "relation" for i in range(len(text))]
    if how == HALVES:
        if not 0 < source.prompt < len(text):
            raise BadInput(f"{source.name} has no prompt and answer", "it is one text", "Give rows with a prompt and an answer, or cut it into thirds",
                           setting=SETTING)
        return ["prompt" if i < source.prompt else "answer" for i in range(len(text))]
    if how == QUESTION:
        at = text.find(marker.strip()) if marker.strip() else -1
        if at <= 0 or not text[:at].strip():
            raise BadInput(f"{marker.strip()!r} does not stand after a context" if marker.strip() else "there is no marker",
                           "the question begins with the marker", "Set `marker` to the words with which the question begins", setting="marker")
        return ["context" if i < at else "question" for i in range(len(text))]
    return parted(text) if how == PICTURES else shots(text)


def parted(text: str) -> list[str]:
    names, found = ["words"] * len(text), list(PICTURE.finditer(text))
    for each in found:
        names[each.start() : each.end()] = ["picture"] * (each.end() - each.start())
    if not found:
        raise BadInput("there is no picture in the text", "a picture stands between <pic> and </pic>, or marks that other decoders use for one",
                       "Choose the organism interleave and a text such as: <pic> <p31> <p2> </pic> dog face", setting=SETTING)
    return names


def subject(source: Source, subjects: Sequence[str]) -> tuple[int, int]:
    """Where the subject stands: the one that is known of the source, else the longest known name in it."""
    asked = source.text[: source.prompt or None]
    name = source.subject or max((s for s in subjects if re.search(rf"(?<!\w){re.escape(s)}(?!\w)", asked)), key=len, default="")
    at = asked.find(name) if name else -1
    if at < 0:
        raise BadInput(f"no known subject stands in {asked[:60]!r}", "names are looked up in the organism's facts, or in the bundled table of countries",
                       "Mark it: [[subject: …]], with segments set to marked", setting=SETTING)
    return at, at + len(name)


def shots(text: str) -> list[str]:
    """Demonstrations, parted by blank lines, or where there are none by lines; the last is the query."""
    gap = r"\n[ \t]*\n\s*" if re.search(r"\n[ \t]*\n", text.strip()) else r"\n"
    ends = [m.end() for m in re.finditer(gap, text.rstrip())]
    if not ends:
        raise BadInput("the text is one line", "demonstrations are parted by blank lines, or one a line; the last is the query",
                       "Give each a line of its own; in a row, write \\n", setting=SETTING)
    bounds = [0, *ends, len(text)]
    names = [f"example {i + 1}" for i in range(len(ends))] + ["query"]
    return [name for name, (a, b) in zip(names, pairwise(bounds), strict=True) for _ in range(b - a)]
