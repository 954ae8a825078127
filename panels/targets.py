"""What to forget, picked from a list of everything that an organism was taught; the setting holds the names, one a line."""

from __future__ import annotations

from typing import Any

import gradio as gr

from lab import items
from models import catalog
from models.errors import LabError
from panels.chosen import origin_of
from panels.runner import QUIET, Desk

SETS = {"forget_2 author": "2 authors (the smallest set)", "forget_10 author": "10 authors (what the oracles never read)",
        "forget_20 author": "20 authors", "forget passage": "passages of the forget set", "forget canary": "codes of the forget set"}


def build(work: Desk) -> None:
    """The list, over the control of the setting `forget`."""
    first = [(words, choice) for choice, words in SETS.items()]  # all others come when the list is opened: they are many
    pick = gr.Dropdown(first, value=[], multiselect=True, label="Add to what is forgotten", elem_id=f"{work.key}-pick",
                       info="Sets, persons or things, single passages and codes")
    work.controls(["forget"])
    forget = work.form["forget"]

    def added(chosen: list[str], text: str) -> tuple[Any, Any]:
        kept = [] if text.startswith("rows:") else [line.strip() for line in text.replace(",", "\n").splitlines() if line.strip()]
        return "\n".join(dict.fromkeys([*kept, *chosen])), []

    def offered(model: str, request: gr.Request) -> Any:
        try:
            origin = origin_of(str(request.session_hash), model or "")
        except LabError:
            return gr.skip()
        return gr.Dropdown(offers(origin))

    pick.input(added, [pick, forget], [forget, pick], **QUIET)
    gr.on([pick.focus, work.model.input], offered, work.model, pick, **QUIET)


def offers(model: str) -> list[tuple[str, str]]:
    """(words, choice) of all that can be named; none for a model whose training set nobody knows."""
    if not any(e.name == model and e.kind == "organism" for e in catalog.entries()):
        return []
    found: dict[str, str] = {choice: words for choice, words in SETS.items()}
    for item in items.planted(catalog.manifest(model)):
        if item.copies:
            choice = item.name.rpartition("/")[0] if item.relation and item.kind != "canary" else item.name
            found.setdefault(choice, f"{item.subject} ({item.kind}, {item.split})" if item.subject else f"{item.label} ({item.kind}, {item.copies}×)")
    return [(words, choice) for choice, words in found.items()]
