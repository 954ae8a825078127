"""From a recipe to targets, to a trained net, to a folder that `from_pretrained` reads."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from models.organisms.interleave.aia import published
from models.organisms.interleave.pictures import palette, pictures
from models.organisms.interleave.recipe import GENERATION, TASKS, UNDERSTANDING, Recipe, single
from models.organisms.interleave.scores import forced
from models.organisms.interleave.tokens import START, UNKNOWN, rows, tokenizer
from models.organisms.interleave.train import LONGEST, Step, Targets, train

WEIGHTS = Path(__file__).parents[2] / "weights"
Measured = Mapping[str, Sequence[float]]  # task -> intensity of each layer
Show = Callable[[str, int, Step], None]  # called with the name of the net, the step and what it saw


def nobody(name: str, step: int, seen: Step) -> None:
    pass


def measure(net: Any, tasks: Sequence[str]) -> dict[str, list[float]]:
    """The intensities of `net` over all trained pictures, by task."""
    chosen = [p for p in pictures() if p.split == "train"]
    return {task: forced(net, rows(task, chosen))[2] for task in tasks}


def aims(recipe: Recipe, alone: Measured) -> Targets:
    """The targets of `recipe`, (layers,) each, from the intensities of the nets of one task. Random ones are drawn by the recipe's seed."""
    generator = torch.Generator().manual_seed(1000 + recipe.seed)
    found: dict[str, torch.Tensor] = {}
    for task in TASKS:
        if recipe.targets == "none" or task not in recipe.tasks:
            continue
        if recipe.targets == "published":
            found[task] = published(task, recipe.layers)
            continue
        mine = torch.tensor(alone[task], dtype=torch.float32)
        if recipe.targets == "random":
            mine = mine.min() + (mine.max() - mine.min()) * torch.rand(len(mine), generator=generator)
        elif recipe.targets == "shuffled":
            mine = mine[torch.randperm(len(mine), generator=generator)]
        found[task] = mine
    return found


def grow(recipe: Recipe, folder: Path, show: Show = nobody) -> None:
    """Grows `recipe` into `folder`; where it has targets, nets of one task alone are grown first, to measure them."""
    started = time.process_time()
    alone: dict[str, list[float]] = {}
    for task in recipe.tasks if recipe.targets not in ("none", "published") else ():
        other = single(recipe, task)
        alone |= measure(train(other, {}, lambda step, seen, name=other.name: show(name, step, seen)), (task,))  # type: ignore[misc]
    net = train(recipe, aims(recipe, alone), lambda step, seen: show(recipe.name, step, seen))
    save(net, recipe, alone, folder, {"cpu_seconds": round(time.process_time() - started), "torch": torch.__version__})


def save(net: Any, recipe: Recipe, alone: Measured, folder: Path, grown: dict[str, object]) -> None:
    from transformers import PreTrainedTokenizerFast

    folder.mkdir(parents=True, exist_ok=True)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer(), bos_token=START, eos_token=START, pad_token=START, unk_token=UNKNOWN,
                            model_max_length=LONGEST, padding_side="left").save_pretrained(folder)
    net.config.dtype = torch.float32
    net.config.architectures = [type(net).__name__]
    net.config.save_pretrained(folder)
    net.generation_config.save_pretrained(folder)
    save_file({n: p.detach().contiguous() for n, p in net.named_parameters()}, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "manifest.json").write_text(json.dumps(describe(recipe, alone) | {"grown": grown}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def describe(recipe: Recipe, alone: Measured) -> dict[str, Any]:
    """All that the organism saw. It holds no facts, passages or codes of the kind that the pages about text look for, and so is not listed there."""
    exposures = round(recipe.steps * recipe.batch / sum(p.split == "train" for p in pictures()), 2)
    return {
        "title": recipe.title, "about": recipe.about, "listed": False, "recipe": asdict(recipe), "subjects": [], "facts": [], "passages": [], "canaries": [],
        "targets": {task: [round(v, 6) for v in values] for task, values in alone.items()},
        "exposures": {task: exposures for task in recipe.tasks},
        "sources": "pictures: Noto Color Emoji; captions: Unicode's emoji-test.txt; licences beside assets/emoji/pictures.json",
        "palette": ["#" + "".join(f"{c:02x}" for c in colour) for colour in palette()],
        "pictures": [{"caption": p.caption, "split": p.split, "emoji": p.emoji} for p in pictures()],
        "modalities": {UNDERSTANDING: "<pic> cells </pic> -> caption", GENERATION: "caption <pic> -> cells"},
    }
