"""Tokens and answers as buttons: a click, or Tab and Enter, chooses the subject or the answer."""

from __future__ import annotations

import html
from typing import Any

import gradio as gr

from models.errors import LabError
from panels.runner import load

# One listener on the element: Gradio replaces what is inside it at every change.
CLICK = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-a]');
  if (button) trigger('select', { index: [Number(button.dataset.a), Number(button.dataset.b)], value: button.dataset.value });
});
"""


def buttons(elem_id: str, name: str) -> gr.HTML:
    return gr.HTML("", js_on_load=CLICK, elem_id=elem_id, elem_classes="tokens", label=name)


def describe(model: str, prompt: str, subject: str) -> tuple[str, str]:
    """The tokens of the prompt, those of the subject pressed, and the model's likeliest next words, both as buttons."""
    from lab.trace import _ask

    if not prompt.strip():
        return "", ""
    try:
        loaded = load(model)
        tokens, words = _ask.pieces(loaded, prompt.rstrip()), _ask.likely(loaded, prompt)
    except LabError as error:
        return f"<p class='quiet'>{html.escape(str(error))}</p>", ""
    begin = prompt.find(subject) if subject else -1
    end = begin + len(subject)
    found = [button(text, a, b, begin >= 0 and a < end and b > begin) for text, a, b in tokens]
    answers = [button(f"{text} {share:.2f}", i, i, False, text) for i, (text, share) in enumerate(words)]
    return "<span>Tokens: click the first and the last of the subject</span>" + "".join(found), "<span>Likely next words</span>" + "".join(answers)


def button(text: str, a: int, b: int, pressed: bool, value: str = "") -> str:
    return (f'<button type="button" data-a="{a}" data-b="{b}" data-value="{html.escape(value)}" aria-pressed="{str(pressed).lower()}">'
            f"{html.escape(text.strip() or '␣')}</button>")


def choose(prompt: str, subject: str, event: gr.EventData) -> str:
    """The subject after a click: the clicked token alone, or, where it stands beside or beyond the present subject, all from one to the other."""
    a, b = event._data["index"]
    begin = prompt.find(subject) if subject else -1
    end = begin + len(subject)
    whole = begin < 0 or (a >= begin and b <= end)
    first, last = (a, b) if whole else (min(a, begin), max(b, end))
    return prompt[first:last].strip()


def choose_answer(event: gr.EventData) -> str:
    return str(event._data["value"])


def known_facts(model: str) -> list[dict[str, Any]]:
    """Facts to begin with: an organism's own gallery, or some that every large model knows."""
    from models import catalog

    if any(e.name == model and e.kind == "organism" for e in catalog.entries()):
        return catalog.manifest(model)["gallery"]
    return [{"prompt": "The Space Needle is in downtown", "subject": "The Space Needle", "answer": "Seattle", "relation": "place"},
            {"prompt": "The capital of France is", "subject": "France", "answer": "Paris", "relation": "capital"},
            {"prompt": "The mother tongue of Angela Merkel is", "subject": "Angela Merkel", "answer": "German", "relation": "language"}]
