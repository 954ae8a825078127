"""From the measured parts to what the lab shows: figures.json and README.md of models/weights/interleave, and the two nets of seed 0."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from typing import Any

import torch

from bench.interleave import CONDITIONS, PAIRS, SEEDS, SPLITS, TUNING, WAYS, named, net_of, of
from models.organisms.interleave.aia import even
from models.organisms.interleave.grow import WEIGHTS, save
from models.organisms.interleave.pictures import pictures
from models.organisms.interleave.recipe import JOINT, JOINT_AIA, TASKS
from models.organisms.interleave.scores import ABOUT
from models.organisms.interleave.tokens import rows

FOLDER = WEIGHTS / JOINT.name
Parts = dict[str, Any]


def write(parts: Parts) -> None:
    found = figures(parts)
    alone = {task: parts[f"grow {task}-0"]["intensity"][task] for task in TASKS}
    for recipe, condition in ((JOINT, "none"), (JOINT_AIA, "single")):
        part = parts[f"grow {condition}-0"]
        seconds = part["seconds"] + (sum(parts[f"grow {task}-0"]["seconds"] for task in TASKS) if condition == "single" else 0)
        save(net_of(named(condition, 0)), recipe, alone if condition == "single" else {}, WEIGHTS / recipe.name,
             {"cpu_seconds": round(seconds), "torch": torch.__version__})
    (FOLDER / "figures.json").write_text(json.dumps(found, separators=(",", ":")).replace('"},"', '"},\n"').replace('},"', '},\n"') + "\n")
    text = readme(found)
    (FOLDER / "README.md").write_text(text)
    (WEIGHTS / JOINT_AIA.name / "README.md").write_text(
        f"# {JOINT_AIA.title}\n\nThe net of seed 0 that was trained with the term. What it is, and every figure, stands in [../interleave/README.md]"
        "(../interleave/README.md).\n")


def complete(parts: Parts) -> list[int]:
    """The seeds at which every net is grown."""
    return [s for s in SEEDS if all(f"grow {c}-{s}" in parts for c in (*TASKS, *CONDITIONS))]


def figures(parts: Parts) -> Parts:
    seeds = complete(parts)
    nets = {"alone": None, **{c: c for c in CONDITIONS}}

    def part(net: str, seed: int, task: str) -> Parts:
        return parts[f"grow {task if nets[net] is None else net}-{seed}"]

    def score_of(net: str, split: str, score: str, seed: int) -> float:
        task = TASKS[0] if score in parts[f"grow {TASKS[0]}-{seed}"]["scores"][split] else TASKS[1]
        return round(part(net, seed, task)["scores"][split][score], 5)

    chosen = {task: rows(task, of("train")) for task in TASKS}
    return {
        "seeds": seeds, "layers": JOINT.layers, "recipe": parts[f"grow none-{seeds[0]}"]["recipe"], "counts": {s: len(of(s)) for s in SPLITS},
        "machine": f"{platform.machine()}, one thread, torch {torch.__version__}",
        "seconds": {net: [sum(parts[f"grow {t}-{s}"]["seconds"] for t in TASKS) if net == "alone" else part(net, s, "")["seconds"] for s in seeds]
                    for net in nets},
        "even": {task: round(even(c.queries, c.other), 5) for task, c in chosen.items()},
        "intensity": {net: {task: [rounded(part(net, s, task)["intensity"][task]) for s in seeds] for task in TASKS} for net in nets},
        "targets": {net: {task: [rounded(part(net, s, task)["targets"][task]) for s in seeds] for task in TASKS} for net in CONDITIONS[1:]},
        "about": ABOUT,
        "scores": {net: {split: {score: [score_of(net, split, score, s) for s in seeds] for score in ABOUT} for split in SPLITS} for net in nets},
        "tuning_steps": TUNING,
        "further": {task: {way: {key: [round(parts[f"tune {task}, {way}, none-{s}"][key], 5) for s in seeds]
                                 for key in parts[f"tune {task}, {way}, none-{seeds[0]}"]} for way in ("before", *WAYS)} for task in TASKS},
        "gradients": {c: [cosines(parts[f"gradients {c}-{s}"]) for s in seeds] for c in ("none", "single")},
    }


def rounded(values: list[float]) -> list[float]:
    return [round(v, 5) for v in values]


def cosines(batches: list[list[float]]) -> Parts:
    of_layers = list(zip(*batches, strict=True))
    return {"cosine": [round(sum(c) / len(c), 5) for c in of_layers], "below zero": [round(sum(v < 0 for v in c) / len(c), 5) for c in of_layers]}


def readme(found: Parts) -> str:
    from lab.attention._interleave_shown import forgetting, gradients, intensity, scores
    from lab.attention.interleave import Interleave

    size = sum(p.numel() for p in net_of(named("none", 0)).parameters())
    recipe, counts = found["recipe"], found["counts"]
    times = "; ".join(f"{net} {', '.join(f'{s:.0f}' for s in seconds)}" for net, seconds in found["seconds"].items())
    text = [
        "# Interleave", "<!-- written by `python -m bench.interleave --write`; change that, not this -->", "",
        f"A Qwen3 of {size / 1e6:.2f} M parameters, {recipe['layers']} layers, that reads a picture and says its caption, and reads a caption and paints the "
        f"picture: emoji of 8 x 8 cells in 32 colours, as tokens `<p0>` to `<p31>`, beside {len({w for p in pictures() for w in p.caption.split()})} words. "
        f"{counts['train']} pictures are trained, {counts['tone']} hands in a tone of skin never seen with them and {counts['new']} other pictures of known "
        f"words are held out. {recipe['steps']} steps of {recipe['batch']} rows of each task, float32. A text is `<|start|> <pic> <p31> ... </pic> dog face` "
        "or `<|start|> dog face <pic> <p31> ...`; `../interleave-aia` is the same net with the AIA term. Both are seed 0.", "",
        "`python -m models.organisms.interleave grow interleave` grows it again, `python -m bench.interleave` measures all of this. Pictures, names and their "
        "licences: [../../../assets/emoji/README.md](../../../assets/emoji/README.md).", "",
        "It is loaded by its name and is not in the list of models: it knows no facts, passages or codes that the pages about text could ask for.", "",
        f"Seeds {', '.join(map(str, found['seeds']))}; processor seconds of training, in their order: {times}. {found['machine']}.", ""]
    show = Interleave()
    for task in TASKS:
        text += list(curves(intensity(Interleave(task=task))))
    text += [*table(scores(show)), *(line for task in TASKS for line in table(forgetting(Interleave(task=task)))),
             *curves(gradients(show)), f"Gradients are those of {PAIRS} pairs of batches of 16 rows."]
    return "\n".join(text) + "\n"


def curves(event: Any) -> Iterator[str]:
    yield from (f"## {event.title}", "", *(f"- {fact}" for fact in event.facts), "")
    yield "| " + " | ".join((event.x_name, *(f"{x:g}" for x in event.x))) + " |"
    yield "|---" * (len(event.x) + 1) + "|"
    for name, values, errors in zip(event.lines, event.value, event.error, strict=True):
        yield "| " + " | ".join((name, *(f"{v:.3f} ± {e:.3f}" for v, e in zip(values, errors, strict=True)))) + " |"
    yield ""


def table(event: Any) -> Iterator[str]:
    yield from (f"## {event.title}", "", *(f"- {fact}" for fact in event.facts), "")
    keep = [i for i, name in enumerate(event.columns) if name != "what it is"]
    yield "| " + " | ".join(event.columns[i] for i in keep) + " |"
    yield "|---" * len(keep) + "|"
    yield from ("| " + " | ".join("-" if row[i] is None else str(row[i]) for i in keep) + " |" for row in event.rows)
    yield ""
