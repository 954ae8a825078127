"""Look closer: every further experiment of a page as a desk of its own, folded away until someone opens it."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr

from lab.events import Table
from lab.experiment import Experiment, discover, find
from panels import tabled
from panels.gallery import FOLDER
from panels.runner import QUIET, Desk, desk, shared
from panels.theme import words

ORDER = ("heads", "neurons", "attribution", "average", "lens", "attributions", "probes",  # what follows from the map first
         "intensity", "memorized", "compared", "sharing", "repetition", "interleave",
         "replay", "detect", "words", "maps", "localize", "trigger", "hard", "adversarial", "erase", "perturb", "memcontrol", "swap",
         "architectures", "learn", "retrieval", "fidelity", "needle", "associative", "serial", "context", "policies", "forgotten", "conversation")


def names(first: Desk) -> list[str]:
    """The other experiments of the page of `first`, those of `ORDER` first."""
    here = [name for name in discover() if name.startswith(f"{first.page}.") and name != first.name]
    return sorted(here, key=lambda name: (ORDER.index(short) if (short := name.partition(".")[2]) in ORDER else len(ORDER), name))


@dataclass(frozen=True)
class Fold:
    """A further experiment that is not on the page yet. When it is opened, `wanted` changes from "" to JSON, and then its desk is made."""

    name: str
    first: Desk
    accordion: gr.Accordion
    wanted: gr.Textbox

    @property
    def kind(self) -> type[Experiment]:
        return find(self.name)

    def unfolded(self, known: dict[str, Any]) -> dict[Any, Any]:
        """What a link with the settings `known` changes on the page: it opens this, and runs it where it gives any."""
        common = {self.first.form[name]: known.pop(name) for name in shared(self.kind, self.first.kind) if name in known}
        return {self.accordion: gr.Accordion(open=True), self.wanted: json.dumps({"given": known, "run": bool(known or common)})} | common


def build(first: Desk, chosen: Sequence[str] = ()) -> list[Fold]:
    """A fold for each of `chosen`, or of all others of the page. All ask about the model and what else means the same to `first`."""
    texts, folds = words("closer"), []
    for name in chosen or names(first):
        kind = find(name)
        title, _, text = texts.get(name, f"{kind.title}\n\n{inspect.getdoc(kind)}").partition("\n")
        wanted = gr.Textbox("", visible="hidden")  # not a gr.State: every load of the page would make all desks
        with gr.Accordion(title, open=False, elem_id=f"{name.replace('.', '-')}-fold", elem_classes="closer") as accordion:
            fold = Fold(name, first, accordion, wanted)
            accordion.expand(None, wanted, wanted, js="(wanted) => wanted || '{}'", api_visibility="private")
            content(fold, text.strip())
        Desk(name, kind).offer()
        folds.append(fold)
    return folds


def content(fold: Fold, text: str) -> None:
    """The desk, made when it is first opened: so what nobody opens costs a visitor nothing."""

    @gr.render(fold.wanted, triggers=[fold.wanted.change], show_progress="hidden")
    def made(wanted: str) -> None:
        if not wanted:
            return
        asked = json.loads(wanted)
        work = desk(fold.name, FOLDER / f"{fold.name.replace('.', '-')}.json")
        work.given, work.described = asked.get("given", {}), fold.first.described
        work.borrow(fold.first)
        lay(work, text, fold.first.below)
        work.connect()
        if fold.first.bench:
            fold.first.bench.follow(work)
        if asked.get("run"):
            started(work)


def started(work: Desk) -> None:
    """Runs a desk that was made just now."""
    once = gr.Timer(0.1)

    def begin(request: gr.Request) -> dict[Any, Any]:
        return work.begin(request) | {once: gr.Timer(active=False)}

    done = work.follow(once.tick(begin, None, [*work.cleared, once], **QUIET))
    if work.described:
        work.described(done)


def lay(work: Desk, text: str, below: Callable[[Desk], None] | None = None) -> None:
    """The words and the form on the left, the figure on the right, and what the page puts below it."""
    asked = [name for name in work.form if name in work.lent]
    with gr.Row(elem_classes="bench"):
        with gr.Column(scale=4, min_width=340, elem_classes="ask"):
            gr.Markdown(text)
            if not work.kind.asks:
                gr.Markdown("Nets of its own: the model chosen on this page does not matter here.", elem_classes="quiet")
            elif asked:
                gr.Markdown(f"Asks about the {' and '.join(', '.join(['model', *asked]).rsplit(', ', 1))} chosen above.", elem_classes="quiet")
            else:
                gr.Markdown("Asks the model chosen above.", elem_classes="quiet")
            with gr.Row():
                work.controls()
            work.buttons()
            gr.Markdown(f"{work.kind.paper}", elem_classes="quiet")
        with gr.Column(scale=6, min_width=340, elem_classes="seen"):
            work.figure()
            if work.first and isinstance(work.first.result, Table):
                tabled.build(work)
            if below:
                below(work)
