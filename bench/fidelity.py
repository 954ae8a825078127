"""Memory fidelity of the bundled language models: `python -m bench.fidelity` writes bench/fidelity.json and its page, bench/fidelity.md.

Every part runs experiments as a visitor can. A part that is in fidelity.json is not run again; name parts to run them anew.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench import _fidelity_page
from lab.data import data_for
from lab.events import Edited, Progress
from lab.experiment import find, read
from lab.recall._numbers import spearman
from models import catalog

HERE = Path(__file__).parent
KEPT = HERE / "fidelity.json"
NETS = ("scribe", "scribe-b", "scribe-oracle-a", "scribe-oracle-b")
MATERIALS = ("places", "belongings")
MEASURES = ("cued", "margin", "uncued", "horizontal", "cosine")
METHODS = ("unlearn.npo", "unlearn.ssd", "unlearn.rmu", "unlearn.grad_ascent")


def last(name: str, model: Any, **settings: Any) -> Any:
    """The result of an experiment."""
    return [e for e in read(find(name), settings).run(model, data_for(model)) if not isinstance(e, Progress)][-1]


def rows(table: Any) -> list[dict[str, Any]]:
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def fidelity() -> Iterator[tuple[str, Any]]:
    """Which measure follows recall: cells of distance and load of four nets, for two things that are stored."""
    cells: list[dict[str, Any]] = []
    for net in NETS:
        for material in MATERIALS:
            mine = rows(last("recall.fidelity", catalog.load(net), show="table", material=material, repeats=12))
            cells += [c | {"net": net, "material": material} for c in mine if c["cued"] is not None]
    plain = [c for c in cells if c["model"] != "untrained"]

    def follows(of: list[dict[str, Any]]) -> dict[str, float]:
        recall = [c["recall"] for c in of]
        return {m: spearman([np.nan if c[m] is None else c[m] for c in of], recall) for m in MEASURES}

    yield "all cells", follows(plain) | {"cells": len(plain)}
    yield "with untrained", follows(cells) | {"cells": len(cells)}
    for net in NETS:
        for material in MATERIALS:
            mine = [c for c in plain if (c["net"], c["material"]) == (net, material)]
            one = {int(c["lag"]): [c["cued"], c["± cued"], c["recall"]] for c in mine if c["load"] == 1}
            two = {int(c["lag"]): [c["cued"], c["± cued"], c["recall"]] for c in mine if c["load"] == 4}
            yield f"{net}, {material}", follows(mine) | {"one": one, "four": two}


def depth() -> Iterator[tuple[str, Any]]:
    """What the last layer tells of the embedding, and what a later state tells of a token, beside the untrained net."""
    for net in NETS:
        curve = last("recall.fidelity", catalog.load(net), show="depth", lags="8", loads="1", repeats=2)
        table = rows(last("recall.fidelity", catalog.load(net), show="table", lags="1, 8, 32", loads="1", repeats=2))
        yield net, {"vertical": [float(v[0]) for v in curve.value], "horizontal": {f"{c['model']}, {int(c['lag'])}": c["horizontal"] for c in table}}


def needle() -> Iterator[tuple[str, Any]]:
    for net in NETS:
        for material in (*MATERIALS, "codes"):
            grid = last("recall.needle", catalog.load(net), show="retrieved", material=material, repeats=8)
            yield f"{net}, {material}", {"fact": grid.facts[0], "lengths": grid.columns, "share": grid.value.mean(0).tolist(),
                                         "worst": grid.value.min(0).tolist()}


def policies() -> Iterator[tuple[str, Any]]:
    for material in MATERIALS:
        for load in (1, 2):
            yield f"{material}, {load} stored", rows(last("recall.policies", catalog.load("scribe"), show="table", material=material, load=load,
                                                         sizes="16, 32, 64, 128", widths="8, 4, 2", repeats=8))


def stream() -> Iterator[tuple[str, Any]]:
    """Loss within and past the claimed length."""
    for policy in ("full", "window", "sink + window", "heavy hitters", "quantized"):
        curve = last("recall.context", catalog.load("scribe"), show="position", policy=policy, kept=64, step=4, along=768, repeats=6)
        within, mean = curve.x <= 256, curve.value[0]
        yield policy, {"within": float(mean[within].mean()), "past": float(mean[~within].mean()), "error": float(np.nanmean(curve.error[0]))}


def lists() -> Iterator[tuple[str, Any]]:
    for net in NETS:
        model = catalog.load(net)
        pairs = last("recall.associative", model, repeats=16)
        serial = last("recall.serial", model, repeats=24)
        context = last("recall.context", model, repeats=24)
        yield net, {"pairs": dict(zip(map(int, pairs.x), pairs.value[0].tolist(), strict=True)), "serial": serial.value[:2].tolist(), "told": serial.facts[-1],
                    "context": dict(zip(map(int, context.x), context.value[0].tolist(), strict=True)), "effective": context.facts[-1]}


def conversation() -> Iterator[tuple[str, Any]]:
    """Four memories, three seeds, questions about anything or about the recent; with the time of a run of two memories."""
    for recent in (0.0, 1.0):
        for encoder in ("hashing",):
            for first, second in (("everything", "age-weighted"), ("latest", "compact only")):
                runs, began = [], time.process_time()
                for seed in range(3):
                    table = last("recall.conversation", catalog.load("scribe"), first=first, second=second, recent=recent, seed=seed, encoder=encoder)
                    runs.append({r[0]: r[1:3] for r in table.rows})
                seconds = (time.process_time() - began) / 3
                for i, name in enumerate((first, second)):
                    values = {score: [run[score][i] for run in runs] for score in runs[0]}
                    yield f"{name}, {'recent' if recent else 'anything'}", values | {"cpu seconds of two": seconds}


def forgotten() -> Iterator[tuple[str, Any]]:
    model = catalog.load("scribe")
    for method in METHODS:
        edited = [e.weights for e in read(find(method), {}).run(model, data_for(model)) if isinstance(e, Edited)][-1]
        table = last("recall.forgotten", edited, items="forget_10 author")
        yield find(method).title, {"facts": table.facts} | {r[0]: r[1:5] for r in table.rows}


PARTS: dict[str, Callable[[], Iterator[tuple[str, Any]]]] = {f.__name__: f for f in (fidelity, depth, needle, policies, stream, lists, conversation, forgotten)}


def main(wanted: list[str]) -> None:
    import torch

    torch.set_num_threads(1)
    done: dict[str, Any] = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    for name, part in PARTS.items():
        if name in wanted or (not wanted and name not in done):
            began = time.process_time()
            done[name] = dict(part()) | {"cpu seconds": round(time.process_time() - began, 1)}
            KEPT.write_text(json.dumps(done, indent=1, default=float) + "\n")
            sys.stderr.write(f"{name}: {done[name]['cpu seconds']} s of one core\n")
    (HERE / "fidelity.md").write_text(_fidelity_page.page(done))


if __name__ == "__main__":
    main(sys.argv[1:])
