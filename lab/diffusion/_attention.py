"""What each place of a picture reads of each token: the cross-attention of any denoiser, seen through hooks on a copy.

A UNet and a PixArt transformer have attention from the picture to the text alone. A joint transformer (SD3) lets picture and text read both: there the
slice from picture to text is taken as it is, so a place's shares sum to less than one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from models.errors import BadInput
from models.model import Model
from models.pipeline import Pipeline, pictures

SMALLEST = 2  # tokens of a picture: a map of fewer is no map
PLACES = {"down_blocks": "down", "mid_block": "middle", "up_blocks": "up", "transformer_blocks": "block", "blocks": "block"}


@dataclass
class Seen:
    """What the hooks of one attention saw of its last pass: queries and keys, and in a joint one those of the text, `batch x tokens x width`."""

    query: Tensor | None = None
    key: Tensor | None = None
    text_key: Tensor | None = None


@dataclass
class Layer:
    """One attention that reads the text. `name` says where it stands, as "down 0.1" or "block 3"."""

    name: str
    module: Any
    joint: bool
    seen: Seen = field(default_factory=Seen)


class Reader:
    """A copy of the net whose cross-attention can be read after every pass through `net`."""

    def __init__(self, model: Model) -> None:
        """Raises `BadInput` where the denoiser has no attention to the text that the lab can read."""
        pictures(model)
        copy: Any = model.skeleton()
        self.net: Pipeline = copy
        self.layers = [layer for layer in _found(self.net.denoiser)]
        if not self.layers:
            raise BadInput(f"the cross-attention of {type(self.net.denoiser).__name__} cannot be read",
                           "it reads the text in another way, or turns its queries before they meet the keys", "Choose a UNet or a PixArt or SD3 transformer",
                           setting="model")
        for layer in self.layers:
            _watch(layer)

    def maps(self, n: int, tokens: int) -> dict[str, Float[Tensor, "n tokens h w"]]:
        """Layer -> what the last pass showed of its first `n` rows and first `tokens` tokens: mean over heads, after softmax, 0 to 1.

        With guidance the rows with text come first, so `n` is their number.
        """
        found = {layer.name: self._map(layer, n, tokens) for layer in self.layers if layer.seen.query is not None}
        if not found:
            raise BadInput("no attention was read", "the denoiser did not use what it has", "Choose another model", setting="model")
        return found

    def _map(self, layer: Layer, n: int, tokens: int) -> Tensor:
        share = attention(layer, n)
        text = share[..., layer.seen.query.shape[1] :] if layer.joint and layer.seen.query is not None else share
        high, wide = self._sides(text.shape[2])
        return text.mean(1).transpose(1, 2)[:, :tokens].unflatten(2, (high, wide)).float()

    def _sides(self, places: int) -> tuple[int, int]:
        """Height and width of a grid of so many places, shaped as the latents are."""
        _, high, wide = self.net.latent_shape
        down = round((high * wide / places) ** 0.5)
        rows = max(1, -(-high // down))
        return (rows, places // rows) if rows * (places // rows) == places else (1, places)


def attention(layer: Layer, n: int) -> Float[Tensor, "n heads places keys"]:
    """What the places of the picture read in the first `n` rows of the last pass: of all keys, in a joint attention the picture's own first."""
    module, seen = layer.module, layer.seen
    if seen.query is None or seen.key is None:
        raise RuntimeError(f"{layer.name} has not run")
    keys = seen.key if seen.text_key is None else torch.cat([seen.key, seen.text_key], 1)
    query, key = (_headed(x[:n], module.heads) for x in (seen.query, keys))
    scale = getattr(module, "scale", query.shape[-1] ** -0.5)
    return (query.float() @ key.float().transpose(-1, -2) * scale).softmax(-1)


def _headed(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _found(denoiser: nn.Module) -> Iterator[Layer]:
    """The attentions that read the text, in the order in which they run."""
    places = []
    for name, module in denoiser.named_modules():
        if not all(hasattr(module, k) for k in ("to_q", "to_k", "heads")):
            continue
        joint = getattr(module, "add_k_proj", None) is not None and getattr(module, "add_q_proj", None) is not None
        if joint and "JointAttnProcessor" not in type(getattr(module, "processor", None)).__name__:
            continue  # turned by position, or in another order
        if joint or getattr(module, "is_cross_attention", name.endswith("attn2")):
            places.append((_order(name), Layer(_short(name), module, joint)))
    yield from (layer for _, layer in sorted(places, key=lambda p: p[0]))


def _order(name: str) -> tuple:
    return (("down", "mid", "up").index(name[: 4 if name.startswith("down") else 3 if name.startswith("mid") else 2]) if name[:2] in ("do", "mi", "up") else 0,
            [int(n) for n in re.findall(r"\d+", name)])


def _short(name: str) -> str:
    """ "down_blocks.1.attentions.0.transformer_blocks.0.attn2" -> "down 1.0"."""
    head = PLACES.get(name.partition(".")[0], name.partition(".")[0])
    outer, _, inner = name.partition("transformer_blocks.")
    numbers = re.findall(r"\d+", outer)
    inside = re.findall(r"\d+", inner.partition(".attn")[0])
    if head in ("block", "middle"):
        numbers = [*numbers, *inside] if head == "block" else inside if inside != ["0"] else []
    elif inside != ["0"]:
        numbers += inside
    return " ".join([head, *([".".join(numbers)] if numbers else [])])


def _watch(layer: Layer) -> None:
    """Puts hooks on one attention of the copy: on what makes its queries and keys, and on what norms them, if anything does."""
    module, seen = layer.module, layer.seen
    kept = {"query": ("to_q", "norm_q"), "key": ("to_k", "norm_k")} | ({"text_key": ("add_k_proj", "norm_added_k")} if layer.joint else {})
    for part, (maker, norm) in kept.items():
        getattr(module, maker).register_forward_hook(lambda _m, _i, out, part=part: setattr(seen, part, out.detach()))
        if getattr(module, norm, None) is not None:
            getattr(module, norm).register_forward_hook(lambda _m, _i, out, part=part: setattr(seen, part, _flat(out.detach())))


def _flat(x: Tensor) -> Tensor:
    """Normed queries as one width a token; some are normed head by head, `batch x heads x tokens x width`."""
    return x.transpose(1, 2).flatten(2) if x.ndim == 4 else x


def upsampled(maps: dict[str, Float[Tensor, "n tokens _ _"]], size: tuple[int, int], *, coarsest: bool) -> dict[str, Float[Tensor, "n tokens h w"]]:
    """The maps of all layers at one size: bicubic, below zero cut off (DAAM, Tang et al. 2022). Without `coarsest` the layers of the fewest places are left
    out, where there are others."""
    fewest = min(m.shape[-1] * m.shape[-2] for m in maps.values())
    kept = {k: m for k, m in maps.items() if coarsest or m.shape[-1] * m.shape[-2] > fewest} or maps
    return {k: nn.functional.interpolate(m, size, mode="bicubic", align_corners=False).clamp(min=0) for k, m in kept.items()}
