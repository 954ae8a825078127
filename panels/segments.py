"""Segments of a text marked by clicks on its tokens: the name is chosen, then its first and its last token."""

from __future__ import annotations

import html
from dataclasses import dataclass

import gradio as gr

from lab.attention._segments import MARK, MARKED
from lab.events import AttentionMap
from models.errors import LabError
from panels import picker
from panels.runner import QUIET, Desk

NAMES = ("A", "B", "C", "D")
ASK = "<span>Mark a segment: click its first and its last token; a click on a marked one takes the mark away</span>"
Span = tuple[str, int, int]  # name, first letter, one past the last, in the text without marks


@dataclass(frozen=True)
class Marks:
    tokens: gr.HTML
    name: gr.Dropdown


def build(work: Desk) -> Marks:
    """The tokens as buttons, and the name of the segment that the next click marks."""
    tokens = picker.buttons("attention-tokens", on_arrival(work))
    name = gr.Dropdown(list(NAMES), value=NAMES[0], allow_custom_value=True, label="Name of the segment", elem_id="attention-segment", min_width=150)
    return Marks(tokens, name)


def connect(work: Desk, marks: Marks) -> None:
    """A click changes the marks in the prompt, and has the text cut by them."""
    prompt, how = work.form["prompt"], work.form["segments"]

    def clicked(text: str, name: str, event: gr.EventData) -> tuple[str, str]:
        marked = toggled(text, name.strip() or NAMES[0], *(int(i) for i in event._data["index"]))
        return marked, MARKED if MARK.search(marked) else "none"

    marks.tokens.select(clicked, [prompt, marks.name], [prompt, how], **QUIET)
    gr.on([prompt.change, work.model.change], show, [work.model, prompt], marks.tokens, trigger_mode="always_last", **QUIET)


def show(model: str, text: str, request: gr.Request | None = None) -> str:
    """The tokens of the text without its marks, each marked one with the name of its segment."""
    from lab.trace import _ask

    try:
        bare, spans = read(text)
        return drawn(_ask.pieces(picker.here(model, request), bare.rstrip()), spans) if bare.strip() else ""
    except LabError as error:
        return f"<p class='quiet'>{html.escape(str(error))}</p>"


def on_arrival(work: Desk) -> str:
    """The tokens of the example, without its model."""
    event = work.first.result if work.first else None
    if not isinstance(event, AttentionMap) or not work.first:
        return ""
    bare, spans = read(str(work.first.settings["prompt"]))
    pieces, at = [], 0
    for token in event.tokens:
        begin = bare.find(token, at) if token.strip() else -1
        if begin >= 0:
            pieces.append((token, begin, at := begin + len(token)))
    return drawn(pieces, spans)


def drawn(pieces: list[tuple[str, int, int]], spans: list[Span]) -> str:
    found = []
    for text, a, b in pieces:
        name = next((n for n, begin, end in spans if a < end and b > begin), "")
        found.append(picker.button(f"{text.strip()} · {name}" if name else text, a, b, bool(name)))
    return ASK + "".join(found)


def read(text: str) -> tuple[str, list[Span]]:
    """The text without marks, and the spans that they named."""
    bare, spans, end = "", list[Span](), 0
    for found in MARK.finditer(text):
        bare += text[end : found.start()]
        inside = found[2].removeprefix(" ")
        spans.append((found[1].strip(), len(bare), len(bare) + len(inside)))
        bare, end = bare + inside, found.end()
    return bare + text[end:], spans


def written(bare: str, spans: list[Span]) -> str:
    """The text with its spans as marks."""
    for name, begin, end in sorted(spans, key=lambda span: -span[1]):
        bare = f"{bare[:begin]}[[{name}: {bare[begin:end]}]]{bare[end:]}"
    return bare


def toggled(text: str, name: str, a: int, b: int) -> str:
    """The text after a click on the token from letter `a` to `b`: unmarked, if it was marked; else part of the segment `name`, which reaches up to it."""
    bare, spans = read(text)
    name = name.translate({ord(letter): None for letter in "[]:"})
    while a < b and bare[a].isspace():  # a token may begin with the blank before it
        a += 1
    hit = [span for span in spans if a < span[2] and b > span[1]]
    if hit or a == b:
        return written(bare, [span for span in spans if span not in hit])
    own = [span for span in spans if span[0] == name]
    begin, end = min([a, *(s[1] for s in own)]), max([b, *(s[2] for s in own)])
    return written(bare, [s for s in spans if s[0] != name and (s[2] <= begin or s[1] >= end)] + [(name, begin, end)])
