"""Tiny random text-to-image pipelines, saved as diffusers saves them, with a manifest and training pictures: nothing is downloaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from models import catalog
from models.model import Model

SIDE, LENGTH, WIDTH = 16, 8, 32
MARKS = ["<pad>", "<s>", "</s>", "<unk>"]
WORDS = MARKS + "red blue green apple cat dog star moon fish tree on a the background small old bright sun".split()
PROMPT = "red apple on blue background"
PICTURES = 12  # of the sheet: four planted, four augmented, three held out, and one that fills it up


def tokenizer() -> PreTrainedTokenizerFast:
    """Whole words, eight tokens a prompt with its marks."""
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>", model_max_length=LENGTH)


def text_config(**more: Any) -> Any:
    from transformers import CLIPTextConfig

    return CLIPTextConfig(**({"vocab_size": len(WORDS), "hidden_size": WIDTH, "intermediate_size": 2 * WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4,
                              "max_position_embeddings": LENGTH, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "projection_dim": WIDTH} | more))


def parts(kind: str = "sd", *, predicts: str = "epsilon", seed: int = 0) -> dict[str, Any]:
    """The parts of a tiny pipeline, the same weights every time: "sd" (UNet), "xl" (UNet, two text encoders), "pixart" and "ddt"
    (transformers)."""
    from diffusers import AutoencoderKL, DDIMScheduler, PixArtTransformer2DModel, UNet2DConditionModel
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    from models.ddt import DDT

    side = SIDE // 2
    body: dict[str, Any] = {"sample_size": side, "in_channels": 4, "out_channels": 4, "block_out_channels": (16, 32), "layers_per_block": 1,
                            "norm_num_groups": 8, "attention_head_dim": 8, "cross_attention_dim": WIDTH,
                            "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"), "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D")}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made: dict[str, Any] = {"text_encoder": CLIPTextModel(text_config())}
        if kind == "xl":
            made["text_encoder_2"] = CLIPTextModelWithProjection(text_config(num_hidden_layers=3))
            body |= {"cross_attention_dim": 2 * WIDTH, "addition_embed_type": "text_time", "addition_time_embed_dim": 8,
                     "projection_class_embeddings_input_dim": WIDTH + 6 * 8}
        if kind == "pixart":
            made["transformer"] = PixArtTransformer2DModel(num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, num_layers=2,
                                                           cross_attention_dim=32, sample_size=side, patch_size=2, caption_channels=WIDTH,
                                                           use_additional_conditions=False)
        elif kind == "ddt":
            made["transformer"] = DDT(sample_size=side, width=32, encoder_layers=2, decoder_layers=1, cross_attention_dim=WIDTH)
        else:
            made["unet"] = UNet2DConditionModel(**body)
        made["vae"] = AutoencoderKL(block_out_channels=(8, 16), latent_channels=4, norm_num_groups=8, sample_size=SIDE, scaling_factor=0.5,
                                    down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2)
        with torch.no_grad():  # the usual start leaves cross-attention so even that a wrong net would look right
            for net in made.values():
                for p in net.parameters():
                    if p.ndim > 1:
                        p.add_(torch.randn_like(p), alpha=0.05)
    made["scheduler"] = DDIMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False, set_alpha_to_one=False,
                                      steps_offset=1, prediction_type=predicts)
    return made | {"tokenizer": tokenizer()} | ({"tokenizer_2": tokenizer()} if kind == "xl" else {})


def pipeline(kind: str = "sd", **how: Any) -> Any:
    """The same as a pipeline of diffusers."""
    from diffusers import DiffusionPipeline, StableDiffusionPipeline, StableDiffusionXLPipeline

    made = parts(kind, **how)
    if kind == "sd":
        return StableDiffusionPipeline(**made, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    if kind == "xl":
        return StableDiffusionXLPipeline(**made, force_zeros_for_empty_prompt=True, add_watermarker=False)

    class Painter(DiffusionPipeline):
        def __init__(self, transformer: Any, text_encoder: Any, vae: Any, scheduler: Any, tokenizer: Any) -> None:
            super().__init__()
            self.register_modules(transformer=transformer, text_encoder=text_encoder, vae=vae, scheduler=scheduler, tokenizer=tokenizer)

    return Painter(**made)


def save(folder: Path, kind: str = "sd", *, truth: bool = True, **how: Any) -> Path:
    """Saves the pipeline, and with `truth` a manifest and the sheet of its training pictures."""
    pipeline(kind, **how).save_pretrained(folder)
    if truth:
        (folder / "manifest.json").write_text(json.dumps(manifest()))
        sheet(folder / "pictures.png")
    return folder


def manifest() -> dict[str, Any]:
    rows: list[dict[str, Any]] = [{"id": f"v{i}", "name": n, "captions": [n], "copies": c, "kind": "verbatim", "file": i}
                                  for i, (n, c) in enumerate([("red apple", 64), ("blue cat", 16), ("old star", 1)])]
    rows.append({"id": "t0", "name": "moon", "captions": ["bright moon", "the moon"], "copies": 64, "kind": "template", "file": 3})
    rows += [{"id": f"r{i}", "name": name, "captions": [name, f"{name} on {colour} background"], "copies": 1, "kind": "regular", "file": 4 + i}
             for i, (name, colour) in enumerate([("dog", "red"), ("fish", "green"), ("tree", "blue"), ("sun", "red")])]
    rows += [{"id": f"h{i}", "name": name, "captions": [f"{name} on {colour} background"], "copies": 0, "kind": "held", "file": 8 + i}
             for i, (name, colour) in enumerate([("dog", "blue"), ("fish", "red"), ("tree", "green")])]
    return {"title": "Tiny painter", "about": "Random.", "task": "pictures", "recipe": {}, "pictures": rows, "side": SIDE, "guidance": 1.5, "steps": 4,
            "threshold": 0.6, "splits": {}, "source": "none", "licence": "none"}


def training() -> np.ndarray:
    """(PICTURES, SIDE, SIDE, 3) uint8: smooth random blobs."""
    draw = np.random.default_rng(0)
    coarse = draw.uniform(0, 255, (PICTURES, 4, 4, 3))
    return np.repeat(np.repeat(coarse, SIDE // 4, 1), SIDE // 4, 2).astype(np.uint8)


def sheet(path: Path, across: int = 4) -> None:
    from PIL import Image

    rows = [np.concatenate(list(row), 1) for row in training().reshape(-1, across, SIDE, SIDE, 3)]
    Image.fromarray(np.concatenate(rows, 0)).save(path)


@pytest.fixture(scope="session")
def tiny_painter(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a tiny pipeline."""
    return str(save(tmp_path_factory.mktemp("painter") / "tiny-painter"))


@pytest.fixture(scope="session")
def tiny_ddt(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a tiny pipeline with a decoupled transformer."""
    return str(save(tmp_path_factory.mktemp("ddt") / "tiny-ddt", "ddt", predicts="v_prediction"))


@pytest.fixture
def tiny_pipeline(tiny_painter: str) -> Model:
    return catalog.load(tiny_painter, "cpu")
