"""The parts of the pipeline, all of them stock classes but the DDT, with weights from a seed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

from models.organisms.painter.corpus import words
from models.organisms.painter.recipe import LENGTH, Recipe, Size

MARKS = ("<pad>", "<s>", "</s>", "<unk>")
LATENT, CHANNELS = 16, 4  # a picture of 32 x 32 as 4 channels of 16 x 16


def tokenizer() -> Any:
    """Whole words; a prompt is begun, ended and filled up to LENGTH tokens."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate((*MARKS, *words()))}, unk_token="<unk>"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>", model_max_length=LENGTH)


def ids(captions: list[str]) -> torch.Tensor:
    """(captions, LENGTH) int64."""
    return tokenizer()(captions, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt").input_ids


def vae(size: Size) -> Any:
    from diffusers import AutoencoderKL

    low, high = size.vae_widths
    return AutoencoderKL(in_channels=3, out_channels=3, down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
                         block_out_channels=(low, high), layers_per_block=1, latent_channels=CHANNELS, norm_num_groups=8, sample_size=32,
                         scaling_factor=1.0, mid_block_add_attention=False, use_quant_conv=False, use_post_quant_conv=False)


def text(size: Size) -> Any:
    from transformers import CLIPTextConfig, CLIPTextModel

    return CLIPTextModel(CLIPTextConfig(vocab_size=len(MARKS) + len(words()), hidden_size=size.text_width, intermediate_size=4 * size.text_width,
                                        num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=LENGTH, projection_dim=size.text_width,
                                        pad_token_id=0, bos_token_id=1, eos_token_id=2))


def denoiser(recipe: Recipe, size: Size) -> Any:
    if recipe.backbone == "ddt":
        from models.ddt import DDT

        return DDT(sample_size=LATENT, in_channels=CHANNELS, width=size.ddt_width, encoder_layers=size.ddt_layers[0], decoder_layers=size.ddt_layers[1],
                   heads=4, cross_attention_dim=size.text_width)
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(sample_size=LATENT, in_channels=CHANNELS, out_channels=CHANNELS, block_out_channels=size.widths, layers_per_block=1,
                                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
                                up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
                                mid_block_type="UNetMidBlock2DCrossAttn", cross_attention_dim=size.text_width, attention_head_dim=4, norm_num_groups=8)


def scheduler() -> Any:
    """Cosine noise levels (Nichol & Dhariwal 2021, arXiv 2102.09672), velocity prediction; the first of 20 timesteps is 951, where some signal is left."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(num_train_timesteps=1000, beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", clip_sample=False,
                         set_alpha_to_one=False, steps_offset=1, timestep_spacing="leading")


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Weights drawn inside come from `seed`; torch's own generator is put back afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
