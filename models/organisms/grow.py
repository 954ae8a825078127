"""From a recipe to a folder that `from_pretrained` reads: weights in float16, tokenizer, manifest."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from models.organisms.corpus import Corpus, describe, make, pack
from models.organisms.recipe import Recipe
from models.organisms.tokens import START
from models.organisms.train import train

WEIGHTS = Path(__file__).parents[1] / "weights"


def grow(recipe: Recipe, folder: Path, *, device: str = "cpu", compiled: bool = False,
         show: Callable[[int, int, float], None] = lambda *_: None) -> Corpus:
    """Grows `recipe` into `folder`; interrupted, it goes on from its last checkpoint when called again. Returns the corpus it read."""
    corpus = make(recipe)
    started = time.process_time()
    net = train(recipe, pack(corpus), folder.parent / ".growing" / f"{recipe.name}.safetensors", device, show, compiled)
    folder.mkdir(parents=True, exist_ok=True)
    save(net, corpus, folder, {"cpu_seconds": round(time.process_time() - started), "device": device, "torch": torch.__version__})
    return corpus


def save(net: Any, corpus: Corpus, folder: Path, grown: dict[str, object]) -> None:
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=corpus.tokenizer, bos_token=START, eos_token=START, pad_token=START,
                                        model_max_length=2 * corpus.recipe.row, padding_side="left")
    tokenizer.save_pretrained(folder)
    net.config.dtype = torch.float16
    net.config.architectures = [type(net).__name__]
    net.config.save_pretrained(folder)
    net.generation_config.save_pretrained(folder)
    weights = {n: p.detach().to("cpu", torch.float16).contiguous() for n, p in net.named_parameters()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    # one item a line: a manifest is read by people too, and its changes show line by line
    lines = ",\n".join(f" {json.dumps(k)}: {_rows(v)}" for k, v in (describe(corpus) | {"grown": grown}).items())
    (folder / "manifest.json").write_text("{\n" + lines + "\n}\n")


def _rows(value: object) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(f"  {json.dumps(v)}" for v in value) + "\n ]"
    return json.dumps(value)
