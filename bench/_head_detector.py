"""`python -m bench._head_detector FOLDER`: TransformerLens's own head detector on the network and the rows of tokens of a folder; prints JSON.

Runs in the environment of TransformerLens 2: see _peers.py. The detector is as it is; it is only given rows of ids where it would make them of text.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformer_lens.head_detector import HEAD_NAMES, detect_head

from bench._transformer_lens import hooked
from bench._worker import read_case


def scores(model: Any, rows: torch.Tensor, exclude_bos: bool) -> dict[str, list[list[float]]]:
    """Detector -> (layers, heads), mean over the rows."""
    model.to_tokens = lambda ids: ids
    return {name: torch.stack([detect_head(model, row[None], name, exclude_bos=exclude_bos) for row in rows]).double().mean(0).tolist()
            for name in HEAD_NAMES}


def main() -> None:
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints is no answer
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    case = read_case(Path(sys.argv[1]))
    model, given = hooked(case), load_file(case.folder / "rows.safetensors")
    found = {name: scores(model, rows, name == "start") for name, rows in given.items() if name != "logits"}
    distance = (model(given["start"]) - given["logits"]).abs().max().item()
    out.write(json.dumps({"scores": found, "logits": distance}) + "\n")


if __name__ == "__main__":
    main()
