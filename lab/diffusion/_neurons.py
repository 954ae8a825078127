"""The value neurons of cross-attention: what a text can put into a picture. They are read, and left out, on a private copy of the net."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from models.errors import BadInput
from models.pipeline import Pipeline

if TYPE_CHECKING:
    from models.model import Model

ENDS = (".attn2.to_v", ".attn.add_v_proj")  # how diffusers calls the value matrix of the text
SECOND = (".ff.net.2", ".down")  # the second matrix of a feed-forward, in diffusers and in models/ddt.py
PLACES = ("down", "mid", "up", "encoder", "decoder")


def values(net: nn.Module, where: str = "all") -> dict[str, nn.Linear]:
    """Path -> the matrix whose outputs are the value neurons of a cross-attention, in the order of the net. `where`: "all", or "down and mid" of a UNet."""
    return matrices(net, ENDS, where)


def feed_forwards(net: nn.Module, where: str = "all") -> dict[str, nn.Linear]:
    """Path -> the second matrix of every feed-forward of a transformer block."""
    return matrices(net, SECOND, where)


def matrices(net: nn.Module, ends: tuple[str, ...], where: str) -> dict[str, nn.Linear]:
    denoiser: Any = net.denoiser
    found = {f"denoiser.{n}": m for n, m in denoiser.named_modules() if f".{n}".endswith(ends) and isinstance(m, nn.Linear)}
    chosen = {n: m for n, m in found.items() if where == "all" or "up_blocks" not in n} or found
    if not chosen:
        raise BadInput(f"{type(denoiser).__name__} has no such layers", "its blocks are not built as those of diffusers",
                       "Choose a UNet or a transformer with cross-attention", setting="method")
    return chosen


def short(path: str) -> str:
    """A path as a column of a figure: down 1.0, mid 0, encoder 3, block 3."""
    parts = path.split(".")
    numbers = [p for p in parts[:-1] if p.isdigit()]
    place = next((p for p in parts if p.split("_")[0] in PLACES), "block").split("_")[0]
    numbers = numbers[: 2 if place in ("down", "up") else 1]
    return f"{place} {'.'.join(numbers)}"


class Blocking:
    """A private net whose value neurons can be left out, each at a time. `off[path]`: (neurons,), True where a neuron gives nothing."""

    def __init__(self, model: Model, where: str = "all") -> None:
        self.net: Pipeline = model.skeleton()  # type: ignore[assignment]
        self.layers = values(self.net, where)
        device = model.device
        self.off: dict[str, Bool[Tensor, " neurons"]] = {n: torch.zeros(m.out_features, dtype=torch.bool, device=device) for n, m in self.layers.items()}
        for name, matrix in self.layers.items():
            matrix.register_forward_hook(self._hook(name))

    def _hook(self, name: str) -> Any:
        def leave_out(module: nn.Module, args: Any, output: Tensor) -> Tensor:
            off = self.off[name]
            return output.masked_fill(off, 0) if bool(off.any()) else output

        return leave_out

    def block(self, off: Mapping[str, Tensor]) -> None:
        """Leaves out these neurons and no others."""
        self.off = {n: off[n].clone() for n in self.layers}

    @property
    def count(self) -> int:
        return sum(int(v.sum()) for v in self.off.values())


@torch.no_grad()
def activations(model: Model, embedding: Float[Tensor, "n rows width"], where: str = "all") -> dict[str, Float[Tensor, "n neurons"]]:
    """Path -> what every value neuron answers to each text: mean over tokens of the absolute output. It depends on the text alone, not on the picture."""
    net: Any = model.skeleton()
    found: dict[str, list[Tensor]] = {}
    for name, matrix in values(net, where).items():
        matrix.register_forward_hook(lambda m, args, out, name=name: found.setdefault(name, []).append(out.float().abs().mean(1)))
    latent = torch.zeros((1, *net.latent_shape), device=model.device)
    t = net.schedule(1)[0][0]
    for row in embedding.split(16):
        net.noise(latent.expand(len(row), -1, -1, -1), t, row)
    return {name: torch.cat(parts) for name, parts in found.items()}


def without(model: Model, off: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Parameter name -> the value matrices (and their biases) with the rows of those neurons zero, of the layers that lose some."""
    edits = {}
    for path, gone in off.items():
        if not bool(gone.any()):
            continue
        matrix: Any = model.net.get_submodule(path)
        edits[f"{path}.weight"] = matrix.weight.detach().masked_fill(gone[:, None].to(matrix.weight.device), 0)
        if matrix.bias is not None:
            edits[f"{path}.bias"] = matrix.bias.detach().masked_fill(gone.to(matrix.bias.device), 0)
    return edits
