"""Tokens and answers as buttons: a click, or Tab and Enter, chooses the subject or the answer."""

from __future__ import annotations

import html
from typing import Any

import gradio as gr

from lab.events import TraceMap
from models.errors import LabError
from panels.runner import QUIET, Desk, load

# One listener on the element: Gradio replaces what is inside it at every change, and with it the button that had the focus.
CLICK = """
let last = null;
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-a]');
  if (!button) return;
  last = document.activeElement === button ? button.dataset.a : null;
  trigger('select', { index: [Number(button.dataset.a), Number(button.dataset.b)], value: button.dataset.value });
});
new MutationObserver(() => {
  if (last === null || element.contains(document.activeElement)) return;
  if (document.activeElement === document.body) element.querySelector(`button[data-a="${last}"]`)?.focus();
  last = null;
}).observe(element, { childList: true, subtree: true });
"""
ASK = "<span>Subject: click its first and its last token</span>"
NEXT = "<span>The model would say</span>"
FITS = "<span>As many tokens have</span>"


def buttons(elem_id: str, value: str) -> gr.HTML:
    return gr.HTML(value, js_on_load=CLICK, elem_id=elem_id, elem_classes="tokens")


def on_arrival(event: TraceMap | None) -> tuple[str, str]:
    """Tokens and answers of a finished run, without its model."""
    if event is None:
        return "", ""
    pieces, at = [], 0
    for text in event.tokens:
        a = event.prompt.find(text, at) if text else -1
        if a >= 0:
            pieces.append((text, a, at := a + len(text)))
    begin = event.prompt.find(event.tokens[event.subject[0]])
    end = next((b for text, _, b in reversed(pieces) if text == event.tokens[event.subject[1] - 1]), begin)
    return tokens(pieces, begin, end), answers([(text.strip(), share) for text, share in event.top])


def tokens(pieces: list[tuple[str, int, int]], begin: int, end: int) -> str:
    return ASK + "".join(button(text, a, b, a < end and b > begin) for text, a, b in pieces)


def answers(found: list[tuple[str, float]]) -> str:
    return NEXT + "".join(button(f"{text} {share:.2f}", i, i, None, text) for i, (text, share) in enumerate(found) if text)


def show_tokens(model: str, prompt: str, subject: str, request: gr.Request | None = None) -> str:
    """The tokens of the prompt, those of the subject pressed."""
    from lab.trace import _ask

    try:
        begin = prompt.find(subject) if subject else -1
        end = begin + len(subject) if begin >= 0 else -1
        return tokens(_ask.pieces(here(model, request), prompt.rstrip()), begin, end) if prompt.strip() else ""
    except LabError as error:
        return f"<p class='quiet'>{html.escape(str(error))}</p>"


def show_answers(model: str, prompt: str, request: gr.Request | None = None) -> str:
    """The likeliest next words."""
    from lab.trace import _ask

    try:
        return answers(_ask.likely(here(model, request), prompt)) if prompt.strip() else ""
    except LabError:
        return ""  # the tokens above say what is wrong


def suggest(work: Desk) -> None:
    """Subjects that could take the place of the one in the prompt, to be chosen by a click."""
    offers, asked = buttons("trace-replacements", ""), [work.form[n] for n in ("prompt", "subject", "corruption")]
    gr.on([work.model.change, *(control.change for control in asked)], show_replacements, [work.model, *asked], offers,
          trigger_mode="always_last", **QUIET)
    offers.select(add_replacement, work.form["replacement"], work.form["replacement"], **QUIET)


def show_replacements(model: str, prompt: str, subject: str, corruption: str, request: gr.Request | None = None) -> str:
    """Subjects of as many tokens that could stand in the place of this one, while it is to be replaced."""
    from lab.trace import _corrupt

    try:
        found = _corrupt.suggestions(here(model, request), prompt, subject) if corruption == "replacement" else []
    except LabError:
        return ""  # the tokens above say what is wrong
    return FITS + "".join(button(name, i, i, None, name) for i, name in enumerate(found)) if found else ""


def add_replacement(replacement: str, event: gr.EventData) -> str:
    """The subjects chosen so far, and the one that was clicked."""
    chosen = [name.strip() for name in replacement.split(";") if name.strip()]
    return "; ".join(dict.fromkeys([*chosen, str(event._data["value"])]))


def here(name: str, request: gr.Request | None) -> Any:
    """A model that is on this machine: showing tokens fetches nothing, only Run does."""
    return load(name, str(request.session_hash) if request else "", download=False)


def button(text: str, a: int, b: int, pressed: bool | None, value: str = "") -> str:
    state = "" if pressed is None else f' aria-pressed="{str(pressed).lower()}"'
    data = f'data-a="{a}" data-b="{b}" data-value="{html.escape(value)}"'
    return f'<button type="button" {data}{state}>{html.escape(text.strip() or "␣")}</button>'


def choose(prompt: str, subject: str, event: gr.EventData) -> str:
    """The subject after a click: the clicked token alone, or, where it lies outside the present subject, all from one to the other."""
    a, b = event._data["index"]
    begin = prompt.find(subject) if subject else -1
    end = begin + len(subject)
    alone = begin < 0 or (a < end and b > begin)
    first, last = (a, b) if alone else (min(a, begin), max(b, end))
    return prompt[first:last].strip()


def choose_answer(event: gr.EventData) -> str:
    return str(event._data["value"])


def known_facts(model: str) -> list[dict[str, Any]]:
    """Facts to begin with: an organism's own gallery, or some that every large model knows."""
    from models import catalog

    if any(e.name == model and e.kind == "organism" for e in catalog.entries()):
        return catalog.manifest(model).get("gallery", [])
    return [{"prompt": "The Space Needle is in downtown", "subject": "The Space Needle", "answer": "Seattle", "relation": "place"},
            {"prompt": "The capital of France is", "subject": "France", "answer": "Paris", "relation": "capital"},
            {"prompt": "The mother tongue of Angela Merkel is", "subject": "Angela Merkel", "answer": "German", "relation": "language"}]
