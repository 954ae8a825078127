"""Grown memories on the disk: written once, read by name and seed."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.errors import BadInput, BrokenWeights
from models.memory.designs import DESIGNS, build, design

if TYPE_CHECKING:
    from models.memory.net import Reader

WEIGHTS = Path(__file__).parents[1] / "weights" / "recall"


def path(name: str, seed: int, folder: Path = WEIGHTS) -> Path:
    return folder / f"{name}-{seed}.safetensors"


def seeds(name: str, folder: Path = WEIGHTS) -> list[int]:
    """The seeds that this memory was grown with, and stand in the folder."""
    found = (p.stem.removeprefix(f"{name}-") for p in folder.glob(f"{name}-*.safetensors"))
    return sorted(int(s) for s in found if s.isdigit())


def names(folder: Path = WEIGHTS) -> list[str]:
    """The memories of which at least one net was grown, in the order of the designs."""
    return [name for name in DESIGNS if seeds(name, folder)]


def save(net: Reader, file: Path, about: dict[str, Any]) -> None:
    """Writes what was trained, in half precision; what is frozen stands in its own file. `about` goes with it, as JSON."""
    import torch
    from safetensors.torch import save_file

    trained = {n: p.detach().to("cpu", torch.float16).contiguous() for n, p in net.named_parameters() if p.requires_grad}
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(".draft")
    save_file(trained, draft, metadata={"about": json.dumps(about)})
    draft.replace(file)  # so that a file that was half written is never read


def about(name: str, seed: int, folder: Path = WEIGHTS) -> dict[str, Any]:
    """What was written beside the weights: the recipe, parameters, seconds, and the share of right answers as it was trained."""
    from safetensors import safe_open

    with safe_open(_there(name, seed, folder), "pt") as file:
        found: dict[str, Any] = json.loads((file.metadata() or {})["about"])
    return found


@lru_cache(maxsize=64)
def load(name: str, seed: int = 0, folder: Path = WEIGHTS) -> Reader:
    """The grown net, frozen, in single precision on the CPU; shared by all who ask, so never written to.

    Raises `BadInput` where there is no such memory or it was not grown with this seed, `BrokenWeights` where the file does not fit.
    """
    from safetensors.torch import load_file

    asked, file = design(name), _there(name, seed, folder)
    base: Any = load(asked.base, seed, folder) if asked.base else None
    net = build(name, seed, base)
    stored = load_file(file)
    missing = {n for n, p in net.named_parameters() if p.requires_grad} ^ set(stored)
    if missing:
        raise BrokenWeights(f"{file.name} does not fit its design", f"it differs in {', '.join(sorted(missing)[:4])}", f"Grow it again: {_command(name, seed)}")
    net.load_state_dict({n: t.float() for n, t in stored.items()}, strict=False)
    return net.eval().requires_grad_(False)


def _there(name: str, seed: int, folder: Path) -> Path:
    design(name)
    file = path(name, seed, folder)
    if not file.is_file():
        raise BadInput(f"{name} was not grown with seed {seed}", f"there are {seeds(name, folder) or 'none'}", f"Grow it: {_command(name, seed)}",
                       setting="memory")
    return file


def _command(name: str, seed: int) -> str:
    return f"python -m models.memory grow {name} --seeds {seed}"
