"""The same architecture before it learned anything."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModelForCausalLM

from models.model import Model


def untrained(model: Model, seed: int) -> Model:
    """A model of the same config with weights as its architecture draws them, by `seed`; no draw of anyone else is changed."""
    config: Any = model.net.config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = AutoModelForCausalLM.from_config(config, dtype=model.dtype)
    return Model(f"{model.name}, untrained", net.eval().requires_grad_(False).to(model.device), model.tokenizer)
