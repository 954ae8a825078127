"""The model alone, with a retriever, and with what imitates it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lab.events import Curves, Event, Progress, Scatter, Table
from lab.recall._retrieval_learn import Said, Student, entries, heard, retriever, students, table_of, train, usual_distance
from lab.recall._retrieval_texts import Rows, Texts, texts
from lab.recall._retrieval_tune import surprise, tuned
from models.memory.knn_lm import Store, mixed, search

if TYPE_CHECKING:
    from lab.recall.retrieval import Retrieval
    from models.model import Model

POINTS = 8  # measurements of each network
OTHERS = "kNN-LM, a store about others"
TUNED = "fine-tuning, weights changed"


@dataclass(frozen=True)
class Line:
    """One memory: perplexities, and what it costs beside the model."""

    name: str
    domain: float
    general: float
    bytes: int
    multiplications: int


@dataclass
class Read:
    """What was read with the model before anything is trained."""

    texts: Texts
    held: Said
    general: Said
    store: Store
    others: Store
    temperature: float
    lines: list[Line] = field(default_factory=list)
    curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)


def retrieval(settings: Retrieval, model: Model) -> Iterator[Event]:
    """Yields the figure after every memory, and last with all."""
    yield Progress(0, 1, "writing the documents")
    net: Any = model.skeleton()  # to read its states, transformers hooks the net
    found: list[Read] = []
    for some in reading(settings, net, model.tokenizer):
        if some is not None:
            found.append(some)
        yield Progress(0, 1, "the model reads")
    read = found[0]
    retrieved(settings, read)
    yield FIGURES[settings.show](settings, read)
    if settings.steps == 0:
        return
    near = retriever(read.store, settings.near, read.temperature)
    for student in students(table_of(net), settings.imitate, settings.seed):
        yield from taught(settings, read, student, near)
        yield FIGURES[settings.show](settings, read)
    yield from changed(settings, read, model)
    yield FIGURES[settings.show](settings, read)


def reading(settings: Retrieval, net: Any, tokenizer: Any) -> Iterator[Read | None]:
    written = texts(tokenizer, settings.authors, settings.rounds, settings.seed)
    said: list[Said] = []
    for rows in (written.store, written.held, written.general, written.others):
        one = None
        for one in heard(net, rows):
            if one is None:
                yield None
        assert one is not None
        said.append(one)
    store = entries(written.store, said[0])
    yield Read(written, said[1], said[2], store, entries(written.others, said[3]), settings.temperature or usual_distance(store))


def retrieved(settings: Retrieval, read: Read) -> None:
    """The model alone, and kNN-LM; and the control, whose store tells of others: what it gains is the form of such documents, not what they say."""
    read.lines.append(Line("the model alone", perplexity(read.held.log), perplexity(read.general.log), 0, 0))
    for name, store in (("kNN-LM", read.store), (OTHERS, read.others)):
        found = [mixed(said.log, search(store, said.states, settings.near, read.temperature).of(rows.target), settings.lam)
                 for said, rows in ((read.held, read.texts.held), (read.general, read.texts.general))]
        read.lines.append(Line(name, perplexity(found[0]), perplexity(found[1]), store.bytes, store.keys.numel()))


def taught(settings: Retrieval, read: Read, student: Student, near: Any) -> Iterator[Event]:
    points = read.curves.setdefault(student.name, [])
    every = max(1, settings.steps // POINTS)
    points.append((0, measured(student, read.texts.held, read.held, settings.lam)))
    for step in train(student, read.texts.store, read.store.keys, near, settings.steps, settings.seed):
        yield Progress(step, settings.steps, f"{student.name} learns")
        if step % every == 0 or step == settings.steps:
            points.append((step, measured(student, read.texts.held, read.held, settings.lam)))
            if settings.show == "perplexity while it learns":
                yield learning(settings, read)
    general = measured(student, read.texts.general, read.general, settings.lam)
    read.lines.append(Line(student.name, points[-1][1], general, student.bytes, student.multiplications))


def changed(settings: Retrieval, read: Read, model: Model) -> Iterator[Event]:
    """The control whose weights are changed: it takes the model's place, so nothing is mixed and nothing multiplied on top."""
    net: Any = None
    for step, trained in tuned(model, read.texts.store, settings.steps, settings.seed):
        net = trained
        yield Progress(step, settings.steps, "a copy of the model is fine-tuned")
    found = []
    for rows in (read.texts.held, read.texts.general):
        for log in surprise(net, rows):
            if log is not None:
                found.append(perplexity(log))
            yield Progress(settings.steps, settings.steps, "the copy is measured")
    read.lines.append(Line(TUNED, found[0], found[1], sum(p.numel() * p.element_size() for p in net.parameters()), 0))


def measured(student: Student, rows: Rows, said: Said, lam: float) -> float:
    return perplexity(mixed(said.log, student.of(rows, said.states), lam))


def perplexity(log: torch.Tensor) -> float:
    return float(torch.exp(-log.double().mean()))


def facts(settings: Retrieval, read: Read) -> tuple[str, ...]:
    known = {line.name: line for line in read.lines}
    lines = [f"the store holds {len(read.store.keys):,} tokens of {len(read.texts.store.ids)} documents; perplexity is measured on {len(read.held.log):,} "
             f"tokens of {len(read.texts.held.ids)} other documents about the same authors, and on {len(read.general.log):,} of general text",
             f"lam {settings.lam}, {settings.near} neighbours, temperature {read.temperature:.3g}"]
    base, knn, others = known["the model alone"], known["kNN-LM"], known[OTHERS]
    if settings.lam:
        lines.append(f"with a store of {len(read.others.keys):,} tokens about other authors kNN-LM goes from {base.domain:.2f} to {others.domain:.2f}, with "
                     f"its own to {knn.domain:.2f}: the difference is what the documents say, not their form")
    for name in ("Memory Decoder", "MLP Memory"):
        if (mine := known.get(name)) is not None and knn.domain < base.domain:
            way = np.log(base.domain / mine.domain) / np.log(base.domain / knn.domain)
            alone = known.get(f"{name}, text alone")
            control = f"; trained on the text alone {alone.domain:.2f} instead of {mine.domain:.2f}" if alone else ""
            lines.append(f"{name} goes {way:.0%} of kNN-LM's way in nats a token, with {mine.multiplications / knn.multiplications:.2g} of its "
                         f"multiplications and {mine.bytes / knn.bytes:.2g} of its bytes{control}")
    if settings.lam and knn.general > base.general:
        lines.append(f"general text pays for it: {base.general:.2f} alone, {knn.general:.2f} with kNN-LM")
    if (tune := known.get(TUNED)) is not None:
        lines.append(f"fine-tuned for as many steps, a second copy of the weights: {tune.domain:.2f}, and {tune.general:.2f} on general text")
    return tuple(lines)


def table(settings: Retrieval, read: Read) -> Table:
    columns = ("memory", "perplexity, new domain", "perplexity, general text", "bytes beside the model", "multiplications a token")
    about = ("what is mixed with the model", "other documents about the authors in the store; lower: better predicted",
             "text that has nothing to do with them; lower: better",
             "what has to be kept; lower: cheaper", "on top of the model's own; of kNN-LM those of an exact search; lower: cheaper")
    rows = tuple((line.name, line.domain, line.general, float(line.bytes), float(line.multiplications)) for line in read.lines)
    return Table("A new domain, and the model's weights untouched", columns, about, rows, facts(settings, read))


def learning(settings: Retrieval, read: Read) -> Curves:
    """Both memories without training are flat lines."""
    steps = np.array(sorted({step for points in read.curves.values() for step, _ in points}) or [0], float)
    flat = {line.name: np.full(len(steps), line.domain) for line in read.lines if line.name not in read.curves}
    learned = {name: np.array([dict(points).get(int(s), np.nan) for s in steps]) for name, points in read.curves.items()}
    value = np.stack(list((flat | learned).values()))
    return Curves("Perplexity of the new domain while the imitators learn", tuple(flat | learned), steps, "step", value, np.full_like(value, np.nan),
                  "perplexity of the mixture", settings.direction, facts(settings, read))


def cost(settings: Retrieval, read: Read) -> Scatter:
    return Scatter("Perplexity against cost", tuple(line.name for line in read.lines), np.array([float(line.multiplications) for line in read.lines]),
                   np.array([line.domain for line in read.lines]), "multiplications a token beside the model's own", "perplexity, new domain", False,
                   settings.direction, facts(settings, read))


FIGURES: dict[str, Callable[[Retrieval, Read], Event]] = {"table": table, "perplexity while it learns": learning, "perplexity against cost": cost}
