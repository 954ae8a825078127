"""The page of bench/fidelity.py."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    def cell(x: Any) -> str:
        return "" if x is None else f"{x:.2f}" if isinstance(x, float) else str(x)

    return [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *(f"| {' | '.join(map(cell, row))} |" for row in rows), ""]


def named(part: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in part.items() if k != "cpu seconds"}


def page(done: dict[str, Any]) -> str:
    makers = {"fidelity": fidelity, "depth": depth, "needle": needle, "policies": policies, "stream": stream, "lists": lists, "conversation": conversation,
              "forgotten": forgotten}
    lines = ["# Memory in the context of the bundled models", "<!-- written by `python -m bench.fidelity`; change that, not this -->", ""]
    for name, make in makers.items():
        if name in done:
            lines += [*make(named(done[name])), f"({done[name]['cpu seconds']} seconds of one core.)", ""]
    return "\n".join(lines).rstrip() + "\n"


def fidelity(part: dict[str, Any]) -> list[str]:
    measures = ("cued", "margin", "uncued", "horizontal", "cosine")
    lines = ["## Which measure follows recall", "", "Rank correlation with recall (Spearman) over cells of distance and load (1, 2 and 4 stored), 12 texts "
             "a cell. "
             "Recall: the told value is the likeliest of all values in stock.", ""]
    names = [n for n in part if n not in ("all cells", "with untrained")]
    lines += table(("cells", *measures), [*((f"{n}", *(part[n][m] for m in measures)) for n in names),
                                          *((f"{n} ({part[n]['cells']})", *(part[n][m] for m in measures)) for n in ("all cells", "with untrained"))])
    lags = list(part[names[0]]["one"])
    lines += ["Cued fidelity (bits, 0 to 1) and, after the stroke, recall by distance in tokens; one thing stored:", ""]
    for load in ("one", "four"):
        lines += [] if load == "one" else ["Four things stored:", ""]
        lags = list(dict.fromkeys(k for n in names for k in part[n][load]))
        lines += table(("net, what is stored", *lags), [(n, *(shown(part[n][load].get(k)) for k in lags)) for n in names])
    return lines


def shown(cell: Sequence[float] | None) -> str:
    return "" if cell is None else f"{cell[0]:.2f} / {cell[2]:.2f}"


def depth(part: dict[str, Any]) -> list[str]:
    lines = ["## Fidelity without a cue, beside an untrained net", "", "Our interpretation of MemMamba's measures: cosine of a state and its linear "
             "reconstruction. "
             "Vertical: the embedding from the last layer, same token. Horizontal: a token from the last layer's state so many tokens later.", ""]
    return lines + table(("net", "vertical", "vertical, untrained", "horizontal 1 / 8 / 32", "the same, untrained"), [
        (n, *v["vertical"], *(" / ".join(f"{v['horizontal'][f'{who}, {lag}']:.2f}" for lag in (1, 8, 32)) for who in (n,
                                                                                                                      "untrained"))) for n, v in part.items()])


def needle(part: dict[str, Any]) -> list[str]:
    lines = ["## Needle in a haystack", "", "Share retrieved, mean over five depths, and the worst depth after the stroke; 8 texts a cell. A length counts "
             "as effective "
             "where .85 is reached at every depth, there and at every shorter one.", ""]
    lengths = list(dict.fromkeys(n for v in part.values() for n in v["lengths"]))
    rows = []
    for name, v in part.items():
        cells = {n: f"{s:.2f} / {w:.2f}" for n, s, w in zip(v["lengths"], v["share"], v["worst"], strict=True)}
        rows.append((name, *(cells.get(n, "") for n in lengths), v["fact"].split("effective length ")[1].split(",")[0]))
    return lines + table(("net, needle", *lengths, "effective, of 256"), rows)


def policies(part: dict[str, Any]) -> list[str]:
    names = list(part)
    lines = ["## Memory policies on scribe", "", "Cued fidelity ± standard error, and recall, the mean over distances of 4 to the farthest; 8 texts each. "
             "Only the three "
             "highest of eight layers see more than four tokens, so only they can leave out anything.", ""]
    rows = []
    for i, first in enumerate(part[names[0]]):
        rows.append((first["policy"], f"{first['KiB']:.0f}", *(f"{part[n][i]['fidelity']:.2f} ± {part[n][i]['± fidelity']:.2f} / "
                                                               f"{part[n][i]['recall']:.2f}" for n in names)))
    return lines + table(("policy", "KiB", *names), rows)


def stream(part: dict[str, Any]) -> list[str]:
    return ["## Past the claimed length", "", "Loss of scribe in nats a token along 768 tokens of general text, 6 texts, 64 tokens kept; claimed are 256.", "",
            *table(("policy", "within", "past", "standard error of a stretch"), [(n, v["within"], v["past"], v["error"]) for n, v in part.items()])]


def lists(part: dict[str, Any]) -> list[str]:
    counts = list(next(iter(part.values()))["pairs"])
    lines = ["## Many things at once, and how much context is used", "", "Associative recall among the values of a text, by number of pairs (chance: one "
             "in their number).", ""]
    lines += table(("net", *counts), [(n, *v["pairs"].values()) for n, v in part.items()])
    lines += ["Recall by place in a list of six, 16 tokens before the question (chance .17):", ""]
    lines += table(("net", *map(str, range(1, 7)), "told"), [(n, *v["serial"][0], v["told"]) for n, v in part.items()])
    lengths = list(next(iter(part.values()))["context"])
    lines += ["Loss of the last 16 tokens of general text, by how many were read before:", ""]
    return lines + table(("net", *lengths, "told"), [(n, *v["context"].values(), v["effective"]) for n, v in part.items()])


def conversation(part: dict[str, Any]) -> list[str]:
    scores = ("update: correct", "update: conflict", "answers: correct", "answers: hallucination", "answers: omission", "answers: stale")
    lines = ["## Long conversations", "", "1,000 turns about 40 people, hashing encoder, 80 points of capacity; mean over three seeds and their range. "
             "Extraction is "
             "without a fault here, so its scores are 1.", ""]
    rows = [(n, *(f"{sum(v[s]) / 3:.2f} ({min(v[s]):.2f} to {max(v[s]):.2f})" for s in scores), v["cpu seconds of two"]) for n, v in part.items()]
    return lines + table(("memory, questions about", *scores, "CPU seconds of a run of two"), rows)


def forgotten(part: dict[str, Any]) -> list[str]:
    keys = ("closed book", "margin of what was told", "fidelity", "general statements: fidelity", "general statements: recall")
    lines = ["## A forgotten fact, or a forgotten skill of reading", "", "scribe before → after, of facts of the ten authors to forget; the difference ± "
             "its standard error.", ""]
    rows = [(n, *(f"{v[k][0]:.2f} → {v[k][1]:.2f} ({v[k][2]:+.2f} ± {v[k][3]:.2f})" for k in keys), v["facts"][-1]) for n, v in part.items()]
    return lines + table(("method", *keys, "verdict"), rows)
