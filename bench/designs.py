"""Where facts sit, by the layout of the documents and by how far the lowest layers see: `python -m bench.designs` grows the pilots and writes designs.json.

The pilots know 60 countries alone, with little general text: they compare layouts, and are no organisms.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.average_trace import questions, traces
from lab.trace._roles import ROLES, average
from models import catalog
from models.organisms.grow import grow
from models.organisms.recipe import SCRIBE

RESULTS = Path(__file__).with_name("designs.json")
PILOT = replace(SCRIBE, subjects=60, author_rounds=0, small_rounds=0, rounds=64, prose=0.3, batch=4)
TRIED: dict[str, dict[str, Any]] = {
    "one fact a document": {"design": "line"},
    "a subject named once, then asked about by pronoun": {"design": "profile"},
    "two subjects in turn, each named in every sentence": {"design": "gather"},
    "all three mixed (scribe's)": {"design": "mixed"},
    "all three mixed, and no local layers": {"design": "mixed", "local": 0},
}
FACTS = 60


def try_out(changes: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Grows one pilot and traces capitals, currencies, languages and continents in it."""
    from bench.organism import fact_scores, mean_of

    grow(replace(PILOT, **changes), folder)
    model, truth = catalog.load(str(folder)), json.loads((folder / "manifest.json").read_text())
    scores = fact_scores(model, truth)
    found = traces(model, questions(truth, FACTS, ("country",)))
    mean, error = average(found)
    at = {role: int(np.nanargmax(mean[i])) for i, role in enumerate(ROLES)}
    return {  # the standard error over a single fact is null
        "trained": mean_of(scores, truth, kinds=("country",)), "never": mean_of(scores, truth, kinds=("country",), words=("never",)),
        "facts": len(found), "total effect": float(np.mean([e.total_effect for e in found])),
        "layers": mean.shape[1], "best": {role: [at[role], float(mean[i, at[role]]), None if np.isnan(error[i, at[role]]) else float(error[i, at[role]])]
                 for i, role in enumerate(ROLES)},
        "last token": mean[-1].tolist(),
    }


def section() -> str:
    """The table of the designs, for the README of scribe."""
    if not RESULTS.is_file():
        return ""
    results = json.loads(RESULTS.read_text())
    roles = ("first subject token", "last subject token", "first token after")
    head = ["documents", "trained / never trained phrasing", "facts traced", "total effect", *(f"{r}: best effect (layer)" for r in roles),
            "last token reaches half its best at layer"]
    rows = []
    for name, r in results.items():
        last = np.array(r["last token"])
        cells = [f"{best:.2f}{'' if error is None else f' ± {error:.2f}'} ({layer})" for layer, best, error in (r["best"][role] for role in roles)]
        rows.append([name, f"{r['trained']:.3f} / {r['never']:.3f}", r["facts"], f"{r['total effect']:.2f}", *cells,
                     f"{int(np.argmax(last >= last.max() / 2))} of {r['layers']}"])
    lines = [head, ["---"] * len(head), *rows]
    table = "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)
    return ("## Document designs that were tried for a site at the subject\n\nPilots on "
            f"{PILOT.subjects} countries alone ({PILOT.rounds} exposures a fact), grown and traced by `python -m bench.designs`. Only facts that a "
            f"pilot answers with more than one half can be traced.\n\n{table}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", choices=TRIED, default=list(TRIED))
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for name in args.only:
        with tempfile.TemporaryDirectory() as folder:
            result = try_out(TRIED[name], Path(folder) / "pilot")
        results = json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}
        ordered = {k: v for k in TRIED if (v := result if k == name else results.get(k))}
        RESULTS.write_text(json.dumps(ordered, indent=1, allow_nan=False) + "\n")


if __name__ == "__main__":
    main()
