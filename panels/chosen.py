"""One item out of many: chosen by a click on the scatter or on the table, told in words, and taken to the other pages."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Any

import gradio as gr
import numpy as np

from lab import items
from lab.events import Survey
from models import catalog
from models.errors import LabError
from panels import draw_items, export, form
from panels.draw_items import COPIES
from panels.runner import GONE, QUIET, Desk
from panels.shelf import PREFIX, SHELF, root
from panels.store import Shown

WATCH = """
const attach = () => {
  const plot = document.querySelector('#ID .js-plotly-plot');
  if (!plot || !plot.on || plot.dataset.watched === 'yes') return;
  plot.dataset.watched = 'yes';
  plot.on('plotly_click', (event) => { const point = event.points[0]; if (point.customdata) trigger('select', { index: [0, 0], value: point.customdata }); });
};
new MutationObserver(attach).observe(document.body, { childList: true, subtree: true });
attach();
"""
HINT = "<p>Click a point, or a line of the table: what was measured of that item appears here.</p>"
COLUMNS = ["item", "what", "kind", "split", "copies"]


@dataclass
class Chosen:
    """`item` holds the name of the chosen item; the buttons lead on from it."""

    item: gr.Textbox
    words: gr.HTML
    read: gr.Button
    trace: gr.Button
    forget: gr.Button
    fault: gr.HTML


def build(work: Desk) -> Chosen:
    """Axes and kinds of the scatter, the item in words, and the table, which is filled when it is opened."""
    first = work.first.result if work.first and isinstance(work.first.result, Survey) else None
    measures, kinds = list(first.measures) if first else [], list(dict.fromkeys(first.kinds)) if first else []
    watcher = gr.HTML("", js_on_load=WATCH.replace("ID", f"{work.key}-plot"), elem_classes="invisible")
    with gr.Row():
        y = gr.Dropdown(measures, value=measures[0] if measures else None, label="Upwards", elem_id=f"{work.key}-y", min_width=140)
        x = gr.Dropdown([COPIES, *measures], value=COPIES, label="To the right", elem_id=f"{work.key}-x", min_width=140)
        shown = gr.Dropdown(kinds, value=[], multiselect=True, label="Only these kinds", elem_id=f"{work.key}-kinds", min_width=140)
    item = gr.Textbox("", visible="hidden", elem_id=f"{work.key}-item")
    words = gr.HTML(HINT, elem_id=f"{work.key}-chosen", elem_classes="cell")
    with gr.Row(elem_classes="exports"):
        read, trace, forget = (gr.Button(text, size="sm", elem_id=f"{work.key}-{key}", interactive=False) for key, text in (
            ("read", "Read it token by token"), ("trace", "Where does it live?"), ("forget", "Forget it")))
    fault = form.message(f"{work.key}-chosen")
    with gr.Accordion("All items as a table, to sort and to search", open=False, elem_id=f"{work.key}-table-fold") as fold:
        table = gr.Dataframe(None, headers=COLUMNS, interactive=False, show_search="filter", max_height=420, wrap=False, elem_id=f"{work.key}-table",
                             show_label=False)
    found = Chosen(item, words, read, trace, forget, fault)
    connect(work, found, watcher, (x, y, shown), fold, table)
    return found


def connect(work: Desk, chosen: Chosen, watcher: gr.HTML, axes: tuple[Any, Any, Any], fold: gr.Accordion, table: gr.Dataframe) -> None:
    x, y, kinds = axes
    buttons = [chosen.read, chosen.trace, chosen.forget]

    def survey(name: str, request: gr.Request) -> Survey | None:
        found: Shown | None = work.find(request, name)
        return found.event if found and isinstance(found.event, Survey) else None

    def redraw(name: str, across: str, up: str, only: list[str], request: gr.Request) -> Any:
        event = survey(name, request)
        if event is None or up not in event.measures or across not in (COPIES, *event.measures):
            return gr.skip()
        return draw_items.scatter(event, across, up, only)

    def fresh(name: str, across: str, up: str, request: gr.Request) -> dict[Any, Any]:
        event = survey(name, request)
        if event is None:
            return {chosen.words: HINT}
        measures = list(event.measures)
        return {y: gr.Dropdown(measures, value=up if up in measures else measures[0]),
                x: gr.Dropdown([COPIES, *measures], value=across if across in measures else COPIES),
                kinds: gr.Dropdown(list(dict.fromkeys(event.kinds)), value=[]), table: rows(event)}

    def point(name: str, request: gr.Request, event: gr.EventData) -> dict[Any, Any]:
        return told(survey(name, request), str(event._data["value"]))

    def line(name: str, request: gr.Request, event: gr.SelectData) -> dict[Any, Any]:
        return told(survey(name, request), str(event.row_value[0]))

    def told(event: Survey | None, name: str) -> dict[Any, Any]:
        if event is None or name not in event.items:
            return {chosen.fault: form.fault(LabError(GONE))}
        return {chosen.item: name, chosen.words: words(event, name), chosen.fault: form.clear(), **{b: gr.Button(interactive=True) for b in buttons}}

    def filled(name: str, request: gr.Request) -> Any:
        event = survey(name, request)
        return rows(event) if event else gr.skip()

    out = [chosen.item, chosen.words, chosen.fault, *buttons]
    watcher.select(point, work.shown, out, trigger_mode="always_last", **QUIET)
    table.select(line, work.shown, out, trigger_mode="always_last", **QUIET)
    gr.on([x.input, y.input, kinds.input], redraw, [work.shown, x, y, kinds], work.plot, trigger_mode="always_last", **QUIET)
    work.done.change(fresh, [work.shown, x, y], [x, y, kinds, table, chosen.words], **QUIET).then(
        redraw, [work.shown, x, y, kinds], work.plot, **QUIET)
    fold.expand(filled, work.shown, table, **QUIET)


def rows(event: Survey) -> dict[str, Any]:
    """The survey as the table takes it."""
    def number(value: float) -> float | None:
        return None if np.isnan(value) else round(float(value), 4)

    about = zip(event.items, event.labels, event.kinds, event.splits, event.copies, event.value, strict=True)
    return {"headers": [*COLUMNS, *event.measures],
            "data": [[item, label, kind, split, int(copies), *map(number, values)] for item, label, kind, split, copies, values in about]}


def words(event: Survey, name: str) -> str:
    """What was measured of one item, each number beside how many of all items are less memorized by it."""
    i = event.items.index(name)
    lines = []
    for m, measure in enumerate(event.measures):
        value, others = event.value[i, m], event.value[:, m]
        if not np.isnan(value):
            below = float(np.mean((event.sign[m] * others[~np.isnan(others)]) < event.sign[m] * value))
            lines.append(f"<li title='{html.escape(event.about[m], quote=True)}'>{html.escape(measure)} <b>{export.filled(round(float(value), 3))}</b> "
                         f"<span class='quiet'>above {below:.0%}</span></li>")
    head = f"{html.escape(event.labels[i])}</b>, {html.escape(event.kinds[i])}, {html.escape(event.splits[i])}, {draw_items.copies(event.copies[i])}"
    return (f"<p class='numbers'><b>{head}</p><ul class='measures'>{''.join(lines)}</ul>"
            "<p class='quiet'>“Above” says how many of these items are less memorized.</p>")


def question(session: str, model: str, name: str) -> items.Item:
    """The item called `name` of the organism behind `model`. Raises `LabError` where there is none."""
    origin = origin_of(session, model)
    manifest = catalog.manifest(origin)
    found = next((i for i in items.planted(manifest) if i.name == name), None)
    if found is None:
        raise LabError(f"{origin} has no item {name!r}", "only what was planted in an organism can be taken to the other pages by name",
                       "Type the prompt there")
    return found


def origin_of(session: str, model: str) -> str:
    """The name, for the catalog, of the model that an edited one goes back to; of any other its own."""
    return root(SHELF.get(session, model).model) if model.startswith(PREFIX) else model.strip()


def traceable(item: items.Item) -> dict[str, str]:
    """An item as the Trace page asks about it: of a passage the last words before its second half stand for the subject."""
    if item.subject:
        return {"prompt": item.prompt, "subject": item.subject, "answer": item.answer}
    return {"prompt": item.prompt, "subject": " ".join(item.prompt.split(" ")[-4:]), "answer": item.answer.split(" ")[0]}
