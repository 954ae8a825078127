"""A decoupled diffusion transformer for small latents: one part reads the condition, another draws (Wang et al. 2025, arXiv 2504.05741).

z = Enc(x_t, t, y) and v = Dec(x_t, t, z): the condition y reaches the velocity only through z, one vector a patch. Of the paper's parts these are kept:
the split, z shared between neighbouring timesteps at sampling, adaptive layer norms that z (in the decoder) and t (in the encoder) drive, RMS norms and
gated feed-forwards. Left out: the alignment of z with features of a large image encoder. Text comes in by cross-attention in every encoder block.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from jaxtyping import Float
from torch import Tensor, nn

FREQUENCIES = 128  # of the timestep's sine embedding


class DDT(ModelMixin, ConfigMixin):  # type: ignore[misc]  # both name their file of settings
    """`forward` is called as a UNet2DConditionModel is; `condition` and `velocity` are its two halves."""

    @register_to_config
    def __init__(self, sample_size: int = 16, in_channels: int = 4, patch: int = 2, width: int = 144, encoder_layers: int = 6, decoder_layers: int = 2,
                 heads: int = 4, cross_attention_dim: int = 128) -> None:
        super().__init__()
        side = sample_size // patch
        self.read, self.seen = (nn.Conv2d(in_channels, width, patch, patch) for _ in range(2))  # of the encoder and of the decoder
        self.places = nn.Parameter(0.02 * torch.randn(side * side, width))
        self.time = nn.Sequential(nn.Linear(FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))
        self.encoder = nn.ModuleList(Block(width, heads, cross_attention_dim) for _ in range(encoder_layers))
        self.decoder = nn.ModuleList(Block(width, heads, None) for _ in range(decoder_layers))
        self.done = nn.RMSNorm(width, eps=1e-6)
        self.last = Shift(width, 2)
        self.out = nn.Linear(width, in_channels * patch * patch)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def condition(self, latents: Float[Tensor, "n c h w"], t: Tensor | float | int,
                  embedding: Float[Tensor, "n rows text"]) -> Float[Tensor, "n patches width"]:
        """The self-condition z: what the encoder makes of noisy latents, their timestep (0 to 999, one number or one a row) and the prompt."""
        moment = self._moment(latents, t)
        states = self.read(latents).flatten(2).transpose(1, 2) + self.places
        for block in self.encoder:
            states = block(states, moment[:, None], embedding)
        return self.done(states) + moment[:, None]

    def velocity(self, latents: Float[Tensor, "n c h w"], t: Tensor | float | int, z: Float[Tensor, "n patches width"]) -> Float[Tensor, "n c h w"]:
        """What the decoder draws into the latents, told by z alone. `z` may come from another prompt, or from an earlier timestep."""
        states = self.seen(latents).flatten(2).transpose(1, 2) + self.places
        told = z + self._moment(latents, t)[:, None]
        for block in self.decoder:
            states = block(states, told, None)
        shift, scale = self.last(told)
        patches = self.out(nn.functional.rms_norm(states, states.shape[-1:], eps=1e-6) * (1 + scale) + shift)
        n, c, h, w = latents.shape
        p = self.config.patch  # type: ignore[attr-defined]
        return patches.view(n, h // p, w // p, c, p, p).permute(0, 3, 1, 4, 2, 5).reshape(n, c, h, w)

    def forward(self, sample: Tensor, timestep: Tensor | float | int, encoder_hidden_states: Tensor, return_dict: bool = True, **_: Any) -> Any:
        """As a UNet's: the predicted velocity, as `.sample` or in a tuple."""
        v = self.velocity(sample, timestep, self.condition(sample, timestep, encoder_hidden_states))
        return UNet2DConditionOutput(sample=v) if return_dict else (v,)

    def _moment(self, latents: Tensor, t: Tensor | float | int) -> Float[Tensor, "n width"]:
        steps = torch.as_tensor(t, device=latents.device, dtype=torch.float32).expand(len(latents))
        line = torch.exp(-math.log(10_000) * torch.arange(FREQUENCIES // 2, device=latents.device) / (FREQUENCIES // 2))
        turns = steps[:, None] * line
        return self.time(torch.cat([turns.cos(), turns.sin()], 1).to(latents.dtype))


class Shift(nn.Module):
    """`count` vectors made of what drives a norm, zero at first: the block begins as the identity."""

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.line, self.count = nn.Linear(width, count * width), count
        nn.init.zeros_(self.line.weight)
        nn.init.zeros_(self.line.bias)

    def forward(self, told: Tensor) -> tuple[Tensor, ...]:
        return self.line(nn.functional.silu(told)).chunk(self.count, -1)


class Block(nn.Module):
    """Attention among patches, to the text where there is one, and a gated feed-forward, each driven by `told` (one vector a picture or one a patch)."""

    def __init__(self, width: int, heads: int, text: int | None) -> None:
        super().__init__()
        self.heads, inner = heads, 8 * width // 3
        self.shift = Shift(width, 6)
        self.qkv, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.attn2 = Cross(width, heads, text) if text is not None else None
        self.up, self.down = nn.Linear(width, 2 * inner), nn.Linear(inner, width)

    def forward(self, x: Float[Tensor, "n patches width"], told: Tensor, text: Tensor | None) -> Float[Tensor, "n patches width"]:
        def norm(v: Tensor) -> Tensor:
            return nn.functional.rms_norm(v, v.shape[-1:], eps=1e-6)

        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = self.shift(told)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(norm(x) * (1 + scale_1) + shift_1).chunk(3, -1))
        x = x + gate_1 * self.mix(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        if self.attn2 is not None and text is not None:
            x = x + self.attn2(norm(x), text)
        a, b = self.up(norm(x) * (1 + scale_2) + shift_2).chunk(2, -1)
        return x + gate_2 * self.down(nn.functional.silu(a) * b)


class Cross(nn.Module):
    """Attention of patches to the tokens of the prompt. Its parts are called as in diffusers' Attention, so that a search of `attn2.to_v` finds them."""

    def __init__(self, width: int, heads: int, text: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q, self.to_k, self.to_v = nn.Linear(width, width, bias=False), nn.Linear(text, width, bias=False), nn.Linear(text, width, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.to_q(x), self.to_k(text), self.to_v(text)))
        return self.to_out[0](nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
