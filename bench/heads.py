"""`python -m bench.heads`: head scores beside TransformerLens's head detector, on GPT-2 networks of random weights; writes bench/heads.json.

The same rows of repeated random tokens go to both: once with nothing before them, once with a start token whose attention is left out (`exclude_bos`).
The detector scores all queries, so the setting `queries` is "all" here.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from bench._peers import CALM, ROOT, Unavailable, answer, python
from lab.attention._head_texts import repeated
from lab.attention.heads import HeadScores
from lab.data import Data
from lab.events import Table
from models import catalog
from models.model import Model

MODELS = ("six layers", "eight layers")
NAMES = {"previous token": "previous_token_head", "duplicate token": "duplicate_token_head", "induction": "induction_head"}
SETTINGS: dict[str, Any] = {"length": 24, "sequences": 8, "seed": 0}
CLOSE = 1e-4
SHARP = 3.0


def cases(folder: Path) -> dict[str, tuple[Model, bool]]:
    """Name -> (the model of a folder, whether attention to the start token counts): without a start token, and with one."""
    model = catalog.load(str(folder / "model"), "cpu")
    bare = copy.deepcopy(model.tokenizer)
    bare.bos_token = None
    return {"bare": (replace(model, tokenizer=bare), True), "start": (model, False)}


def sharpen(folder: Path) -> None:
    """Makes the patterns of random weights, which are nearly even, as uneven as those of a trained net: one that is even says little of a score."""
    path = folder / "model" / "model.safetensors"
    weights = load_file(path)
    save_file({name: value * SHARP if name.endswith("c_attn.weight") else value for name, value in weights.items()}, path, {"format": "pt"})


def ours(model: Model, bos: bool) -> dict[str, np.ndarray]:
    """Score -> (layers * heads)."""
    event = list(HeadScores(**SETTINGS, queries="all", bos=bos, show="table").run(model, Data(())))[-1]
    assert isinstance(event, Table)
    return {name: np.array([row[event.columns.index(name)] for row in event.rows], float) for name in NAMES}


def theirs(folder: Path) -> dict[str, Any]:
    done = subprocess.run([python("transformer_lens"), "-m", "bench._head_detector", str(folder)], cwd=ROOT, env={**os.environ, **CALM}, capture_output=True,
                          text=True)
    if done.returncode:
        raise Unavailable((done.stderr.strip().splitlines() or ["it did not say why"])[-1][:300])
    return json.loads(done.stdout)


def compare(name: str, folder: Path) -> dict[str, Any]:
    """The largest difference of each score, and the largest score, in both cases."""
    answer("_random_gpt2", name, str(folder))
    sharpen(folder)
    both, rows = cases(folder), {}
    for case, (model, _) in both.items():
        rows[case] = repeated(model, SETTINGS["length"], SETTINGS["sequences"], SETTINGS["seed"]).ids
    with torch.no_grad():
        logits = both["start"][0].net(rows["start"]).logits
    save_file(rows | {"logits": logits.contiguous()}, folder / "rows.safetensors")
    peer, found = theirs(folder), {}
    for case, (model, bos) in both.items():
        for kind, value in ours(model, bos).items():
            other = np.array(peer["scores"][case][NAMES[kind]]).ravel()
            found[f"{kind}, {case}"] = {"heads": len(value), "difference": float(np.abs(value - other).max()), "largest": float(other.max()),
                                        "spread": float(other.std())}
    return {"scores": found, "logits": peer["logits"]}


def main() -> None:
    torch.set_num_threads(1)
    found = {}
    for name in MODELS:
        with tempfile.TemporaryDirectory() as folder:
            found[name] = compare(name, Path(folder))
    (Path(__file__).parent / "heads.json").write_text(json.dumps(found, indent=1) + "\n")
    worst = max(score["difference"] for model in found.values() for score in model["scores"].values())
    sys.stdout.write(f"{json.dumps(found, indent=1)}\nlargest difference {worst:.1e} ({'within' if worst < CLOSE else 'NOT within'} {CLOSE:g})\n")
    sys.exit(worst >= CLOSE)


if __name__ == "__main__":
    main()
