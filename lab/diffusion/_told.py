"""Which captions are scored, what is true of them, and the figures of their scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lab.data import Data
from lab.diffusion._ask import chosen_prompts
from lab.diffusion._scores import Told, told
from lab.diffusion._training import PLANTED, Row, truth
from lab.events import Curves, Event, Grid, Scatter, Table
from models.errors import BadInput
from models.model import Model

if TYPE_CHECKING:
    from lab.diffusion.detect import Detect

KNOWN = "known"


@dataclass(frozen=True)
class Measure:
    """`sign` is 1 where higher is more memorized, -1 where lower is."""

    name: str
    about: str
    sign: int


FIRST = (
    Measure("noise, first step", "norm of the noise that the text adds at the first step, 0 and more (Wen et al. 2024)", 1),
    Measure("first sight", "mean difference, over pairs of noises, of the clean latents that the first step sees, with the text alone, over their spread, "
            "0 and more", -1),
    Measure("sharpness", "norm(H s)^2 at the first step, s and H what the text adds to score and Hessian, 0 and more (Jeon et al. 2025)", 1),
    Measure("curvature", "minus the mean eigenvalue of the Hessian of the log density at the first step, by Hutchinson (Jeon et al. 2025)", 1),
)
DRAWN = (
    Measure("noise, all steps", "norm of the noise that the text adds, mean over steps, 0 and more (Wen et al. 2024)", 1),
    Measure("tiles", "mean difference, over pairs of noises, of the worst of 4 x 4 tiles of the pictures, 0 to 1 (Carlini et al. 2023)", -1),
    Measure("embedder", "mean cosine, over pairs of noises, of the copy-detection features of the pictures, -1 to 1", 1),
    Measure("bright ending", "noise that the text adds where the end mark holds the attention at the last step, 0 and more (Chen et al. 2024)", 1),
    Measure("end attention", "share of the attention that the end mark holds at the last step, 0 to 1 (Chen et al. 2024)", 1),
)


def measures(drawn: bool, embedder: bool, attention: bool) -> list[Measure]:
    """Those that can be had."""
    without = {*(() if embedder else ("embedder",)), *(() if attention else ("bright ending", "end attention"))}
    return [m for m in (*FIRST, *(DRAWN if drawn else ())) if m.name not in without]


@dataclass(frozen=True)
class Caption:
    """`label` is "memorized", "plain", "specifying", or "" where it counts as neither. `copies` is -1 where nobody knows."""

    text: str
    label: str
    copies: int
    kind: str


def captions(settings: Detect, model: Model, data: Data) -> list[Caption]:
    """The captions to score. Raises `BadInput` where an organism's are wanted of another model."""
    known = truth(model, data)
    if settings.prompts.strip() != KNOWN:
        rows = [(text, known.row(text)) for text in chosen_prompts(settings.prompts, known)]
        return [Caption(text, label(settings, row, text), row.copies if row else -1, row.kind if row else "") for text, row in rows]
    if not known.rows:
        raise BadInput(f"nobody knows what {model.name} was trained on", "only the lab's own organisms have a manifest", "Write prompts, one a line",
                       setting="prompts")
    first = {c: r for r in reversed(known.rows) for c in r.captions}  # one caption may stand under many pictures
    every = [(Caption(c, label(settings, r, c), r.copies, r.kind), r.name) for c, r in reversed(first.items())]
    draw = torch.Generator().manual_seed(settings.seed)
    wanted = [("memorized", None), ("", PLANTED)]
    wanted += [(kind, None) for kind in ("plain", "specifying") if settings.negatives in (kind, "both")]
    found = []
    for name, kinds in wanted:
        found += taken([e for e in every if e[0].label == name and (kinds is None or e[0].kind in kinds)], settings.most, draw)
    if not any(c.label == "memorized" for c in found):
        raise BadInput(f"no caption was planted {settings.least} times or more", "the organism's copies end below", "Lower it", setting="least")
    return found


def taken(every: Sequence[tuple[Caption, str]], most: int, draw: torch.Generator) -> list[Caption]:
    """`most` captions at random, as evenly as can be over what they are of: one of each picture or name before a second of any."""
    count: dict[str, int] = {}
    turns = []
    for place, i in enumerate(torch.randperm(len(every), generator=draw).tolist()):
        turns.append((count.get(every[i][1], 0), place, i))
        count[every[i][1]] = turns[-1][0] + 1
    return [every[i][0] for i in sorted(i for _, _, i in sorted(turns)[:most])]


def label(settings: Detect, row: Row | None, text: str) -> str:
    """What a caption counts as. The bare name of what was only seen augmented is plain; one that says the ground too leaves little open."""
    if row is None:
        return ""
    if row.kind in PLANTED:
        return "memorized" if row.copies >= settings.least else ""
    return "plain" if text == row.name else "specifying"


# ---- figures


def shown(which: str, settings: Detect, rows: Sequence[Caption], found: Sequence[Measure], value: np.ndarray, facts: Sequence[str]) -> Event:
    """The figure called `which` of the scores so far; `value` is (captions, measures), NaN where a score is still to come."""
    make: Any = {"prompts": table, "copies": scatter, "roc": curves, "auc": grid}[which]
    return make(settings, rows, found, value, tuple(facts))


def table(settings: Detect, rows: Sequence[Caption], found: Sequence[Measure], value: np.ndarray, facts: tuple[str, ...]) -> Table:
    """Every prompt with all of its scores."""
    cells = [(r.text, r.label or r.kind or "unknown", float(r.copies) if r.copies >= 0 else None, *(float(v) if np.isfinite(v) else None for v in values))
             for r, values in zip(rows, value, strict=True)]
    heads = ("prompt", "is", "copies", *(m.name for m in found))
    about = ("the prompt", "what is true of it", "how often its picture stood in training", *(f"{m.about}; {'+' if m.sign > 0 else '-'}" for m in found))
    return Table(f"{len(rows)} prompts", heads, about, tuple(cells), facts, "not scored yet, or nobody knows")


def scatter(settings: Detect, rows: Sequence[Caption], found: Sequence[Measure], value: np.ndarray, facts: tuple[str, ...]) -> Scatter:
    """One score against how often the picture stood in training."""
    names = [m.name for m in found]
    at = names.index(settings.score) if settings.score in names else 0
    keep = [i for i, r in enumerate(rows) if r.copies >= 0 and np.isfinite(value[i, at])]
    sign = "higher" if found[at].sign > 0 else "lower"
    return Scatter(f"{names[at]} against copies", tuple(f"{rows[i].text} ({rows[i].label or rows[i].kind})" for i in keep),
                   np.log2(1 + np.array([rows[i].copies if rows[i].kind in PLANTED else 0 for i in keep], float)), value[keep, at],
                   "log2 of 1 + planted copies", names[at], False, f"{names[at]}, {sign}: more memorized", (*facts, found[at].about))


def parted(rows: Sequence[Caption], found: Sequence[Measure], value: np.ndarray) -> dict[tuple[str, str], Told]:
    """(score, what it is compared with) -> how well it tells."""
    kinds = [k for k in ("plain", "specifying") if any(r.label == k for r in rows)]
    sets = {k: (k,) for k in kinds} | ({"both": tuple(kinds)} if len(kinds) > 1 else {})
    result = {}
    for i, m in enumerate(found):
        for name, labels in sets.items():
            got = [m.sign * value[[j for j, r in enumerate(rows) if r.label in some and np.isfinite(value[j, i])], i] for some in (("memorized",), labels)]
            if (how := told(*got)) is not None:
                result[m.name, name] = how
    return result


def grid(settings: Detect, rows: Sequence[Caption], found: Sequence[Measure], value: np.ndarray, facts: tuple[str, ...]) -> Grid:
    """AUC and share found of every score, against each set of others."""
    how = parted(rows, found, value)
    sets = list(dict.fromkeys(name for _, name in how))
    columns = [f"{what}, {name}" for name in sets for what in ("AUC", "TPR")]
    figure, error = (np.full((len(found), len(columns)), np.nan) for _ in range(2))
    for i, m in enumerate(found):
        for j, name in enumerate(sets):
            if (t := how.get((m.name, name))) is not None:
                figure[i, 2 * j : 2 * j + 2], error[i, 2 * j : 2 * j + 2] = (t.auc, t.at_one), (t.auc_se, t.at_one_se)
    return Grid("How well each score tells memorized captions from others", tuple(m.name for m in found), tuple(columns), "score", "figure", figure, error,
                "share", "AUC and share found, 0 to 1, higher: told apart better; .5 is guessing for the AUC",
                ("AUC and TPR, the share found at 1 % false alarms, against plain and against specifying captions", *facts, *sizes(settings, rows)))


def curves(settings: Detect, rows: Sequence[Caption], found: Sequence[Measure], value: np.ndarray, facts: tuple[str, ...]) -> Curves:
    """The ROC curve of every score, read off at 0 to 100 % false alarms."""
    how = {k: t for k, t in parted(rows, found, value).items() if settings.negatives == k[1] or (settings.negatives == "both" and k[1] != "both")}
    x = np.linspace(0, 1, 101)
    lines = [np.array([t.true[t.false <= at + 1e-9].max() for at in x]) for t in how.values()]
    names = tuple(f"{m}, against {s}: AUC {t.auc:.3f}" for (m, s), t in how.items())
    shape = np.stack(lines) if lines else np.zeros((0, 101))
    return Curves("ROC of every score", names, x, "false alarms", shape, np.full_like(shape, np.nan), "share of the memorized that is found",
                  "share found, 0 to 1, higher: told apart better", (*facts, *sizes(settings, rows)))


def course(settings: Detect, rows: Sequence[Caption], value: np.ndarray, facts: tuple[str, ...]) -> Curves:
    """The noise that the text adds at every step, mean over the captions of each kind with its standard error; of typed prompts a line each."""
    kinds = [k for k in ("memorized", "plain", "specifying") if any(r.label == k for r in rows)]
    parts = {f"{k} ({len(at)} captions)": at for k in kinds if (at := [i for i, r in enumerate(rows) if r.label == k])}
    if settings.prompts.strip() != KNOWN:
        parts = {r.text: [i] for i, r in enumerate(rows)}
    mean = np.stack([value[at].mean(0) for at in parts.values()])
    error = np.stack([value[at].std(0, ddof=1) / len(at) ** 0.5 if len(at) > 1 else np.full(value.shape[1], np.nan) for at in parts.values()])
    return Curves("Noise that the text adds, step by step", tuple(parts), np.arange(1, value.shape[1] + 1, dtype=float), "step", mean, error,
                  "norm of the noise", "norm of the noise that the text adds, 0 and more, higher: more memorized", facts)


def sizes(settings: Detect, rows: Sequence[Caption]) -> tuple[str, ...]:
    count = {k: sum(r.label == k for r in rows) for k in ("memorized", "plain", "specifying")}
    return (f"{count['memorized']} captions planted {settings.least} times or more, {count['plain']} plain ones, {count['specifying']} that specify strongly",)
