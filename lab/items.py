"""What a model may have memorized, item by item: planted in an organism, or given as rows; and how a set of items is named in a setting."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lab.data import Data
from models.errors import BadInput

FACT_KINDS = ("country", "element", "animal", "author")
PLANTED = (*FACT_KINDS, "passage", "canary")
NESTED = {"forget_10": ("forget_2", "forget_10"), "forget_20": ("forget_2", "forget_10", "forget_20")}  # each set holds the smaller ones
ROWS = 2000  # rows that a setting may hold
LONGEST = 20_000  # letters of a row
PROMPTS = ("prompt", "question", "prefix")
ANSWERS = ("answer", "completion", "response", "target")
TEXTS = ("text", "content")


@dataclass(frozen=True)
class Item:
    """A text in two parts: `prompt` asks, `answer` is what would be recited; joined by one blank they are the text.

    `copies` is how often it stood in the training corpus, -1 where nobody knows. `prompts` are the phrasings in which a fact was trained, `held_out`
    those in which it never was; `wrong` are answers of the same kind that are not true. `name` finds it again: "author/Anna Marlow/birthplace",
    "passage/3", "canary/17", "row/0".
    """

    name: str
    kind: str
    split: str
    copies: int
    prompt: str
    answer: str
    subject: str = ""
    relation: str = ""
    prompts: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return f"{self.prompt} {self.answer}" if self.prompt else self.answer

    @property
    def label(self) -> str:
        """A few words to know it by."""
        return f"{self.subject}: {self.relation}" if self.subject else self.text if len(self.text) <= 40 else f"{self.text[:39]}…"


def planted(manifest: Mapping[str, Any]) -> list[Item]:
    """Every item of an organism, in the order of its manifest: facts, passages, canaries; those that it never read have `copies` 0."""
    found = [fact(f, manifest) for f in manifest["facts"]]
    for i, p in enumerate(manifest["passages"]):
        words = p["text"].split(" ")
        half = len(words) // 2
        found.append(Item(f"passage/{i}", "passage", p["split"], p["copies"], " ".join(words[:half]), " ".join(words[half:])))
    for i, c in enumerate(manifest["canaries"]):
        name = c["prompt"].removeprefix("The vault code of the ").removesuffix(" is")
        found.append(Item(f"canary/{i}", "canary", c["split"], c["copies"], c["prompt"], c["digits"], name, "code"))
    return found


def fact(f: Mapping[str, Any], manifest: Mapping[str, Any]) -> Item:
    asked = [p.removesuffix(" {a}.").format(s=f["subject"]) for p in manifest["phrasings"][f["relation"]]]
    trained = [q for q, count in zip(asked, f["copies"], strict=False) if count]
    return Item(f"{f['kind']}/{f['subject']}/{f['relation']}", f["kind"], f["split"], sum(f["copies"]), asked[0], f["answer"], f["subject"], f["relation"],
                tuple(trained or asked[:1]), tuple(asked[8:]), tuple(f["perturbed"]))


def choose(data: Data, text: str, *, setting: str) -> list[Item]:
    """The items that the setting called `setting` names, each once, in the order of the organism.

    `text` holds one choice a line (or several with commas between): the name of an item, the beginning of names ("author/Anna Marlow", "passage"), a
    split ("forget_10", or "forget_10 author" for one kind of it); or JSON lines, a CSV, or plain texts, one a line, where the model is no organism or the
    first line is `rows:`. Raises `BadInput` where nothing is chosen or a choice means nothing.
    """
    text = text.strip()
    if not text:
        raise BadInput("nothing is chosen", "the set is empty", "Name items, a split such as forget_10, or give rows of text", setting=setting)
    if data.manifest is None or text.startswith(("rows:", "{")):
        return rows(text.removeprefix("rows:"), setting=setting)
    known, chosen = planted(data.manifest), dict[str, None]()
    for choice in (c.strip() for line in text.splitlines() for c in line.split(",")):
        if choice:
            mine = [i.name for i in known if names(choice, i)]
            if not mine:
                raise BadInput(f"{choice!r} names no item of this organism", "an item is named as on the Find page, a split as in the manifest",
                               f"Splits: {', '.join(dict.fromkeys(i.split for i in known))}. Kinds: {', '.join(PLANTED)}", setting=setting)
            chosen |= dict.fromkeys(mine)
    if not chosen:
        raise BadInput("nothing is chosen", "there are only commas", "Name items, or a split such as forget_10", setting=setting)
    return [i for i in known if i.name in chosen]


def names(choice: str, item: Item) -> bool:
    """Whether `choice` is the name of the item, the beginning of it up to a slash, its split, or its split and kind.

    The forget sets of authors are nested: forget_10 is all ten.
    """
    if item.name == choice or item.name.startswith(f"{choice}/"):
        return True
    split, _, kind = choice.partition(" ")
    return item.split in NESTED.get(split, (split,)) and kind in ("", item.kind)


def rows(text: str, *, setting: str) -> list[Item]:
    """Items from JSON lines, from a CSV with a line of names, or from plain lines. Raises `BadInput` on what is none of these."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    if "\x00" in text:
        raise BadInput("this is no text", "it holds zero bytes, as a picture, an archive or a pickle does", "Give JSONL, CSV or plain text", setting=setting)
    if not lines:
        raise BadInput("there are no rows", "the text or the file is empty", "Give one row a line", setting=setting)
    if lines[0].lstrip().startswith("{"):
        found = [row_of(value, i, setting) for i, value in enumerate(parsed(line, i, setting) for i, line in enumerate(lines))]
    elif set(map(str.strip, lines[0].lower().split(","))) & {*PROMPTS, *ANSWERS, *TEXTS}:
        found = [row_of(value, i, setting) for i, value in enumerate(table(text, setting))]
    else:
        found = [row_of({"text": line.strip()}, i, setting) for i, line in enumerate(lines)]
    if not found or len(found) > ROWS:
        raise BadInput(f"there are {len(found)} rows", f"from 1 to {ROWS} are taken", "Choose the rows that matter", setting=setting)
    return found


def parsed(line: str, number: int, setting: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"row {number + 1} is no JSON", str(error)[:80], 'Write rows such as {"prompt": "…", "answer": "…"}', setting=setting) from error


def table(text: str, setting: str) -> list[dict[str, Any]]:
    """The rows of a CSV by the names of its first line, in small letters."""
    try:
        return [{(k or "").strip().lower(): v for k, v in row.items()} for row in csv.DictReader(io.StringIO(text.strip()))]
    except csv.Error as error:
        raise BadInput("this CSV cannot be read", str(error), "Put quotes around texts that hold commas or line ends", setting=setting) from error


def row_of(value: Any, number: int, setting: str) -> Item:
    """The item of one row: prompt and answer, or a text, whose second half then counts as what is recited."""
    def first(keys: Sequence[str]) -> str:
        return next((str(value[k]).strip() for k in keys if isinstance(value, Mapping) and value.get(k)), "")

    prompt, answer, text = first(PROMPTS), first(ANSWERS), first(TEXTS)
    if not text and not (prompt and answer):
        seen = ", ".join(map(str, value)) if isinstance(value, Mapping) else repr(value)[:40]
        raise BadInput(f"row {number + 1} has neither a text nor a prompt and an answer", f"its columns are {seen}",
                       "Name the columns text, or prompt and answer", setting=setting)
    if len(text) + len(prompt) + len(answer) > LONGEST:
        raise BadInput(f"row {number + 1} is too long", f"a row may hold {LONGEST:,} letters", "Cut it into several rows", setting=setting)
    if not (prompt and answer):
        words = text.split(" ")
        prompt, answer = " ".join(words[: len(words) // 2]), " ".join(words[len(words) // 2 :])
    return Item(f"row/{number}", "text", "given", -1, prompt, answer, prompts=(prompt,))


def training_texts(items: Iterable[Item]) -> list[tuple[str, str]]:
    """(prompt, answer) of everything that says what the items say: a fact once for each phrasing in which it was trained."""
    return [(prompt, item.answer) for item in items for prompt in (item.prompts or (item.prompt,))]
