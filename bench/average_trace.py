"""The causal trace averaged over many facts, by the role of the token, with its standard error over the facts."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np

from lab.data import data_for
from lab.events import TraceMap
from lab.experiment import read
from lab.trace._roles import ROLES, average
from lab.trace.causal import CausalTrace
from models.errors import BadInput
from models.model import Model

FACTS = 120  # half about countries, half about authors


def questions(truth: dict[str, Any], count: int, kinds: tuple[str, ...] = ("country", "author"), seed: int = 0) -> list[dict[str, str]]:
    """Known facts asked in trained phrasings, as many of each kind, drawn by seed."""
    rng, found = random.Random(seed), []
    for kind in kinds:
        facts = [f for f in truth["facts"] if f["kind"] == kind and sum(f["copies"])]
        for fact in rng.sample(facts, min(count // len(kinds), len(facts))):
            phrasing = truth["phrasings"][fact["relation"]][rng.randrange(6)]
            found.append({"prompt": phrasing.removesuffix(" {a}.").format(s=fact["subject"]), "subject": fact["subject"], "answer": fact["answer"]})
    return found


def traces(model: Model, asked: list[dict[str, str]], samples: int = 10) -> list[TraceMap]:
    """The finished map of every question that the model gives a probability of more than a half; the others have nothing to trace."""
    data = data_for(model)
    found: list[TraceMap] = []
    for question in asked:
        try:
            *_, event = (e for e in read(CausalTrace, {**question, "samples": samples, "preview": False}).run(model, data) if isinstance(e, TraceMap))
        except BadInput:
            continue  # an answer without probability
        if event.clean > 0.5:
            found.append(event)
    return found


def write(model: Model, truth: dict[str, Any], folder: Path) -> str:
    """Draws the averages of countries and of authors beside each other, and returns the section of the README."""
    by_kind = {kind: traces(model, questions(truth, FACTS // 2, (kind,))) for kind in ("country", "author")}
    draw({kind: average(events) for kind, events in by_kind.items()}, folder / "average-trace.png")
    rows = [f"## Where the facts are: the averaged causal trace\n\nHidden states, Gaussian noise of 3 standard deviations, 10 samples, over "
            f"{len(by_kind['country'])} "
            f"facts about countries and {len(by_kind['author'])} about authors in trained phrasings that scribe answers with more than one half.\n",
            "![averaged causal trace](average-trace.png)\n",
            "Restoring the last token brings back the first token of an answer; the later ones of an answer of several tokens still read the noisy subject.\n"]
    for kind, events in by_kind.items():
        mean, error = average(events)
        rows.append(f"**{kind}** (mean probability clean {np.mean([e.clean for e in events]):.2f}, total effect "
                    f"{np.mean([e.total_effect for e in events]):.2f}); effect ± standard error over facts, by layer:\n")
        rows.append("| role | " + " | ".join(map(str, range(mean.shape[1]))) + " |\n|" + "---|" * (mean.shape[1] + 1))
        rows += [f"| {role} | " + " | ".join(f"{m:.2f} ± {e:.2f}" for m, e in zip(mean[i], error[i], strict=True)) + " |" for i, role in enumerate(ROLES)]
        rows.append("")
    return "\n".join(rows)


def draw(averages: dict[str, tuple[np.ndarray, np.ndarray]], path: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(averages), figsize=(11, 3.6), sharey=True, layout="constrained")
    top = max(mean[~np.isnan(mean)].max() for mean, _ in averages.values())
    for axis, (kind, (mean, error)) in zip(axes, averages.items(), strict=True):
        image = axis.imshow(mean, cmap="cividis", vmin=0, vmax=top, aspect="auto")
        axis.set(title=f"{kind}: effect ± standard error", xlabel="layer", xticks=range(mean.shape[1]), yticks=range(len(ROLES)), yticklabels=ROLES)
        for (i, j), value in np.ndenumerate(mean):
            axis.text(j, i, f"{value:.2f}\n±{error[i, j]:.2f}", ha="center", va="center", fontsize=6.5, color="white" if value < top / 2 else "black")
    figure.colorbar(image, ax=axes, label="indirect effect (probability)")
    figure.savefig(path, dpi=130)
    plt.close(figure)
