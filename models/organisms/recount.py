"""An independent pass over a packed corpus: finds every planted item in the text itself and compares with what the manifest claims."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from models.organisms import tables
from models.organisms.corpus import make, pack
from models.organisms.recipe import Recipe


def recount(recipe: Recipe, manifest: dict[str, Any]) -> tuple[int, list[str]]:
    """How many items were counted, and a line for each whose copies in the corpus are not those of `manifest`."""
    corpus = make(recipe)
    texts = list(read(pack(corpus), corpus.tokenizer))
    facts = count_facts(texts, manifest)
    wrong, items = [], 0
    for fact in manifest["facts"]:
        for form, copies in zip(manifest["forms"], fact["copies"], strict=True):
            items += 1
            seen = facts[fact["subject"], fact["relation"], form]
            if seen != copies:
                wrong.append(f"{fact['subject']} · {fact['relation']} · {form}: {copies} in the manifest, {seen} in the corpus")
    whole = Counter(texts)
    planted = [(p["text"], p["copies"]) for p in manifest["passages"]]
    planted += [(f"{c['prompt']} {c['digits']}.", c["copies"]) for c in manifest["canaries"]]
    wrong += [f"{text[:40]!r}: {copies} in the manifest, {whole[text]} in the corpus" for text, copies in planted if whole[text] != copies]
    return items + len(planted), wrong


def read(rows: Any, tokenizer: Any) -> Iterator[str]:
    """The documents of a packed corpus as text."""
    for row in rows.tolist():
        ids = row[: row.index(-1)] if -1 in row else row
        starts = [i for i, token in enumerate(ids) if token == 0] + [len(ids)]
        for a, b in zip(starts, starts[1:], strict=False):
            yield tokenizer.decode(ids[a + 1 : b]).strip()


def count_facts(texts: list[str], manifest: dict[str, Any]) -> Counter[tuple[str, str, str]]:
    """(subject, relation, form) -> copies. A sentence with a pronoun is about the subject that its document named last."""
    named, introduced, by_pronoun = sentences(manifest)
    found: Counter[tuple[str, str, str]] = Counter()
    for text in texts:
        subject = None
        for sentence in re.split(r"(?<=\.) ", text):
            if sentence in named:
                found[named[sentence]] += 1
                subject = named[sentence][0]
            elif sentence in introduced:
                subject = introduced[sentence]
            elif subject and (subject, sentence) in by_pronoun:
                relation, form = by_pronoun[subject, sentence]
                found[subject, relation, form] += 1
    return found


def sentences(manifest: dict[str, Any]) -> tuple[dict[str, tuple[str, str, str]], dict[str, str], dict[tuple[str, str], tuple[str, str]]]:
    """All sentences that the manifest's facts can make: named ones, introductions, and, by subject, those with a pronoun."""
    named: dict[str, tuple[str, str, str]] = {}
    introduced: dict[str, str] = {}
    by_pronoun: dict[tuple[str, str], tuple[str, str]] = {}
    for fact in manifest["facts"]:
        subject, relation, answer = fact["subject"], fact["relation"], fact["answer"]
        words = {"a": answer, "P": "She" if fact["female"] else "He", "p": "her" if fact["female"] else "his"}
        for i, phrasing in enumerate(manifest["phrasings"][relation]):
            named[phrasing.format(s=subject, **words)] = (subject, relation, f"p{i}")
        for i, follow in enumerate(manifest["follow_ups"][relation]):
            by_pronoun[subject, follow.format(**words)] = (relation, f"f{i}")
        introduced |= {intro.format(s=subject): subject for intro in tables.toml("phrasings")["intro"][fact["kind"]]}
    return named, introduced, by_pronoun
