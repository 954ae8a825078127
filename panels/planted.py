"""A needle planted by a click: the pair that a text asks for is moved to the place of the token that was clicked."""

from __future__ import annotations

import re

import gradio as gr

from lab.events import Event, Grid
from panels import picker
from panels.runner import QUIET, Desk

ASK = "<span>Plant the pair that is asked for: click the word before which it should stand</span>"
PLACED = re.compile(r"\d+ (\S+)")  # a column of the figure: place and word


def build(work: Desk) -> None:
    """The words of the text as buttons. A click changes the text; a run without one shows the text that was written for it."""
    words = said(work.first.result if work.first else None)
    tokens, held = picker.buttons(f"{work.key}-tokens", drawn(words)), gr.Textbox(" ".join(words), visible="hidden")
    text = work.form["text"]
    work.views[tokens], work.views[held] = (lambda event: drawn(said(event))), (lambda event: " ".join(said(event)))
    tokens.select(moved, [text, held], text, **QUIET)
    text.change(lambda own, shown: drawn(own.split() or shown.split()), [text, held], tokens, trigger_mode="always_last", **QUIET)


def moved(text: str, held: str, event: gr.EventData) -> str:
    """The text after a click on its word number `index`: the pair that is asked for stands before that word, and no other pair is parted."""
    words, to = text.split() or held.split(), int(event._data["index"][0])
    at = place(words)
    if at < 0 or to in (at, at + 1) or not 0 <= to < len(words):
        return " ".join(words)
    if words[to].startswith("v") and to and words[to - 1].startswith("k"):
        to -= 1
    pair, rest = words[at : at + 2], words[:at] + words[at + 2 :]
    to -= 2 if to > at else 0
    return " ".join(rest[:to] + pair + rest[to:])


def said(event: Event | None) -> list[str]:
    """The words that a figure is about, without the mark of the beginning."""
    found = [PLACED.fullmatch(name) for name in event.columns] if isinstance(event, Grid) else []
    return [m[1] for m in found if m and not m[1].startswith("<s")] if all(found) else []


def drawn(words: list[str]) -> str:
    """The words as buttons, those of the pair that is asked for pressed."""
    at = place(words)
    return ASK + "".join(picker.button(word, i, i, i in (at, at + 1) if at >= 0 else False) for i, word in enumerate(words)) if words else ""


def place(words: list[str]) -> int:
    """Where the key that the last word asks for stands last with a value after it; -1 where it does not."""
    return next((i for i in range(len(words) - 3, -1, -1) if words[i] == words[-1] and words[i + 1].startswith("v")), -1)
