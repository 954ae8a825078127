"""What scribe, its second seed and its oracles know, measured: `python -m bench.organism` writes models/weights/scribe/README.md.

Every figure of that file comes from here; a bar that is missed is written as missed.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench import average_trace, designs
from bench.kneser_ney import Trigrams
from lab.memorization._exposure import exposure
from lab.memorization._recall import nll, recalls, recites
from models import catalog
from models.model import Model
from models.organisms.corpus import held_out, make
from models.organisms.recipe import RECIPES

TARGETS, ORACLES = ("scribe", "scribe-b"), ("scribe-oracle-a", "scribe-oracle-b")
FORGOTTEN = ("forget_2", "forget_10")


def fact_scores(model: Model, truth: dict[str, Any]) -> dict[tuple[str, str, str], float]:
    """(kind, split, words) -> share of the questions answered right, where words are `trained`, `others` (phrasings trained on other subjects
    alone) or `never` (phrasings that nobody was trained on). `truth` is the manifest of the target, whose copies decide what was trained."""
    asked = [(fact, i) for fact in truth["facts"] for i in range(10)]
    prompts = [truth["phrasings"][f["relation"]][i].removesuffix(" {a}.").format(s=f["subject"]) for f, i in asked]
    right = recalls(model, prompts, [f["answer"] for f, _ in asked])
    found: dict[tuple[str, str, str], list[bool]] = defaultdict(list)
    for (fact, i), ok in zip(asked, right, strict=True):
        words = "never" if i >= 8 else "trained" if i < 6 or fact["tutor"] else "others"
        found[fact["kind"], fact["split"], words].append(bool(ok))
    return {k: float(np.mean(v)) for k, v in found.items()}


def mean_of(scores: dict[tuple[str, str, str], float], truth: dict[str, Any], *, kinds: Iterable[str] = (), splits: Iterable[str] = (),
            words: Iterable[str] = ("trained",)) -> float:
    """Mean over kinds and splits, weighted by the number of questions; an empty choice takes all."""
    weight: dict[tuple[str, str], int] = defaultdict(int)
    for fact in truth["facts"]:
        weight[fact["kind"], fact["split"]] += 1
    chosen = [(v, weight[k[0], k[1]]) for k, v in scores.items()
              if (not kinds or k[0] in kinds) and (not splits or k[1] in splits) and k[2] in words]
    return float(np.average([v for v, _ in chosen], weights=[w for _, w in chosen]))


def passage_scores(model: Model, truth: dict[str, Any]) -> dict[int, float]:
    """Copies -> share of the passages whose last 32 tokens follow, verbatim, from the first 32 (and the start token)."""
    rows = [model.tokenizer(p["text"])["input_ids"] for p in truth["passages"]]
    found: dict[int, list[bool]] = defaultdict(list)
    for passage, right in zip(truth["passages"], recites(model, rows, [33] * len(rows)), strict=True):
        found[passage["copies"]].append(bool(right))
    return {k: float(np.mean(v)) for k, v in sorted(found.items())}


def canary_scores(model: Model, truth: dict[str, Any], six: tuple[int, ...]) -> dict[tuple[int, int], tuple[float, float]]:
    """(digits, copies) -> mean exposure in bits and its standard error; those of six digits, which take long, only at the copies `six`."""
    found: dict[tuple[int, int], list[float]] = defaultdict(list)
    for canary in (c for c in truth["canaries"] if len(c["digits"]) == 4 or c["copies"] in six):
        found[len(canary["digits"]), canary["copies"]].append(exposure(model, canary["prompt"], canary["digits"]))
    return {k: (float(np.mean(v)), float(np.std(v, ddof=1) / math.sqrt(len(v)))) for k, v in sorted(found.items())}


def perplexities(models: Iterable[Model]) -> dict[str, float]:
    """Of held-out general text from the third token on, for each model and for Kneser-Ney trigrams of the same corpus."""
    corpus = make(RECIPES["scribe"])
    rows = [corpus.tokenizer.encode(t).ids for t in held_out(corpus.recipe)]
    trigrams = Trigrams(itertools.chain(corpus.general, corpus.planted), corpus.recipe.vocabulary)
    found = {"Kneser-Ney trigrams": math.exp(np.concatenate([trigrams.nll(r) for r in rows]).mean())}
    return found | {m.name: math.exp(np.concatenate([x[1:] for x in nll(m, rows)]).mean()) for m in models}


def table(head: list[str], rows: Iterable[Iterable[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(f"{c:.3f}" if isinstance(c, float) else str(c) for c in line) + " |" for line in lines)


def verdicts(scores: dict[str, Any], truth: dict[str, Any], passages: dict[int, float], canaries: dict[tuple[int, int], tuple[float, float]],
             perplexity: dict[str, float]) -> list[tuple[str, float, str, str]]:
    """Each bar as (what, figure, bar, reached or missed)."""
    target, world = scores["scribe"], ("country", "element", "animal")
    kept = ("neighbour", "retain", "forget_20")
    rows = [
        ("facts of the world, trained phrasings", mean_of(target, truth, kinds=world), ">=", 0.95),
        ("facts of the world, phrasings trained on other subjects alone", mean_of(target, truth, kinds=world, words=("others",)), ">=", 0.6),
        ("facts of the world, phrasings never trained", mean_of(target, truth, kinds=world, words=("never",)), ">=", 0.6),
        ("trained authors, trained phrasings", mean_of(target, truth, kinds=("author",), splits=(*FORGOTTEN, *kept)), ">=", 0.95),
        ("trained authors, phrasings trained on other authors alone",
         mean_of(target, truth, kinds=("author",), splits=(*FORGOTTEN, *kept), words=("others",)), ">=", 0.6),
        ("trained authors, phrasings never trained", mean_of(target, truth, kinds=("author",), splits=(*FORGOTTEN, *kept), words=("never",)), ">=", 0.6),
        ("passages verbatim at 64 copies", passages[64], ">=", 0.9),
        ("passages verbatim at 1 copy", passages[1], "<=", 0.1),
        *[(f"exposure of {n}-digit canaries, 32 copies less none, bits", canaries[n, 32][0] - canaries[n, 0][0], ">=", 10.0) for n in (4, 6)],
        ("perplexity of held-out general text, below Kneser-Ney's", perplexity["scribe"], "<=", perplexity["Kneser-Ney trigrams"]),
    ]
    for oracle in (name for name in ORACLES if name in scores):
        forget, hold = (mean_of(scores[oracle], truth, splits=s) for s in (FORGOTTEN, ("holdout",)))
        rows.append((f"{oracle}: forget accuracy less that of the holdout authors, absolute", abs(forget - hold), "<=", 0.05))
        mine, its = (mean_of(scores[m], truth, splits=kept) for m in (oracle, "scribe"))
        rows.append((f"{oracle}: retain accuracy less scribe's, absolute", abs(mine - its), "<=", 0.02))
    return [(what, x, f"{sign} {bar:.3g}", "reached" if (x >= bar if sign == ">=" else x <= bar) else "**missed**") for what, x, sign, bar in rows]


def report(folder: Path) -> str:
    here = {e.name for e in catalog.entries() if e.kind == "organism"}
    models = {name: catalog.load(name) for name in (*TARGETS, *ORACLES) if name in here}
    truth = catalog.manifest("scribe")
    scores = {name: fact_scores(m, truth) for name, m in models.items()}
    passages = {name: passage_scores(m, truth) for name, m in models.items()}
    canaries = {name: canary_scores(m, truth, (32, 0) if name == "scribe" else ()) for name, m in models.items()}
    perplexity = perplexities(models.values())
    groups = sorted({k[:2] for k in scores["scribe"]})
    parts = [
        HEAD.format(general=truth["tokens"]["general"], planted=truth["tokens"]["planted"],
                    share=truth["tokens"]["general"] / sum(truth["tokens"].values()),
                    weights=sum(p.numel() for p in models["scribe"].net.parameters()) / 1e6),
        table(["what", "figure", "bar", ""], verdicts(scores, truth, passages["scribe"], canaries["scribe"], perplexity)),
        "## Facts\nShare of questions whose whole answer greedy decoding gives: phrasings trained / trained on other subjects alone / never trained.\n",
        table(["subjects", "split", *models], [[*g, *(" / ".join(f"{scores[m][(*g, w)]:.3f}" if (*g, w) in scores[m] else "-" for w in WORDS) for m in models)]
                                               for g in groups]),
        "## Passages\nShare recited verbatim: 32 tokens after 32, by copies in scribe's corpus (the oracles never read two fifths of them).\n",
        table(["copies", *models], [[c, *(passages[m][c] for m in models)] for c in passages["scribe"]]),
        "## Canaries\nMean exposure in bits ± standard error, by copies in scribe's corpus; the most is 13.3 for 4 digits and 19.9 for 6.\n",
        table(["digits", "copies", *models],
              [[*k, *("{:.1f} ± {:.1f}".format(*canaries[m][k]) if k in canaries[m] else "-" for m in models)] for k in canaries["scribe"]]),
        "## Perplexity of held-out general text\n", table(["model", "perplexity"], perplexity.items()),
        average_trace.write(models["scribe"], truth, folder), designs.section(),
    ]
    return "\n\n".join(p.strip() for p in parts) + "\n"


WORDS = ("trained", "others", "never")
HEAD = """# Scribe
<!-- written by `python -m bench.organism`; change that, not this -->

A Qwen3 of {weights:.2f} M parameters whose five lowest layers see only the last four tokens, grown in a single pass over a corpus that a program
wrote: {general:,} tokens of general text ({share:.1%}) and {planted:,} of planted documents.
`manifest.json` says what was planted, in which words and how often; `python -m models.organisms recount scribe`
counts it again, and `python -m models.organisms grow scribe` grows it again. Figures were measured on the weights as stored (float16), run in float32.
How every measure of memorization rises with copies stands in [memorization.md](memorization.md), every unlearning method at equal forgetting in
[unlearning.md](unlearning.md).

## Bars
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    torch.set_num_threads(parser.parse_args().threads)
    folder = Path("models/weights/scribe")
    (folder / "README.md").write_text(report(folder))


if __name__ == "__main__":
    main()
