"""Grows what stands in a folder of models/weights: the shared parts first (VAE, copy detector, namer), then a denoiser with its text encoder."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from models.organisms.painter import embedder, parts, vae
from models.organisms.painter.budget import Budget
from models.organisms.painter.corpus import Corpus, corpus
from models.organisms.painter.manifest import keep, manifest, sheet
from models.organisms.painter.recipe import Recipe, Size
from models.organisms.painter.train import Trainer

Show = Callable[[str, int, float, float], None]  # what, steps done, share of the budget used, loss or PSNR
SAVED = 60.0  # seconds between two checkpoints
TIMED = (40, 140)  # steps between which the speed is measured


def grow_vae(size: Size, budget: Budget, out: Path, device: str, show: Show) -> None:
    """Writes out/vae."""
    net = vae.grown(size, budget, device, lambda *seen: show("vae", *seen))
    net.cpu().half().save_pretrained(out / "vae")


def grow_eyes(size: Size, budget: Budget, out: Path, device: str, show: Show) -> None:
    """Writes the copy detector and the namer, half of the budget each."""
    for kind, file in embedder.FILES.items():
        half = Budget(budget.steps, budget.seconds / 2 if budget.seconds else None)
        net = embedder.grown(kind, size, half, device, lambda *seen, kind=kind: show(kind, *seen))  # type: ignore[misc]
        embedder.save(net, out / file)


def read_vae(out: Path, device: str) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL.from_pretrained(out / "vae", torch_dtype=torch.float32, use_safetensors=True, local_files_only=True).to(device).eval()


def grow(recipe: Recipe, size: Size, budget: Callable[[], Budget], out: Path, device: str, show: Show, *, compiled: bool = False,
         agree: Callable[[float], float] = lambda rate: rate) -> Path:
    """Grows a pipeline into `out`. `budget` is asked for when all is ready to train but for the latents; once it returns, out/vae must be there.

    The mean weights are saved every minute and at the end. By the clock, the number of steps is set once the speed is known: `agree` may lower the speed,
    so that two nets that are grown side by side do as many. A compiler that fails is done without.
    """
    known = corpus(size.variants)
    trained = [k for k, s in enumerate(known.shown) if s.kind != "held"]
    trainer = Trainer(recipe, size, known, device)
    if compiled:
        try:
            trainer.compile()
            show(f"{recipe.name}, compiled", 0, 0.0, 0.0)
        except Exception as error:
            warnings.warn(f"not compiled: {error}", stacklevel=1)
            trainer.eager()
    limit = budget()
    trainer.begin(vae.latents(read_vae(out, device), known.pictures(trained, device)), limit)
    saved = began = time.monotonic()
    sums: list[torch.Tensor] = []
    while limit.share(trainer.done) < 1:
        sums.append(trainer.step())
        if trainer.done in TIMED and limit.steps is None and limit.seconds:
            sums[-1].item()  # a GPU runs behind: wait for it
            if trainer.done == TIMED[0]:
                began = time.monotonic()
            else:
                pace = agree((TIMED[1] - TIMED[0]) / (time.monotonic() - began))
                limit.steps = trainer.done + int(0.97 * pace * (limit.seconds - limit.elapsed))
        if trainer.done % 100 == 0:
            show(recipe.name, trainer.done, limit.share(trainer.done), torch.stack(sums).mean().item())
            sums = []
        if time.monotonic() - saved > SAVED:
            write(trainer, known, out)
            saved = time.monotonic()
    write(trainer, known, out)
    return out


def write(trainer: Trainer, known: Corpus, out: Path) -> None:
    """The pipeline folder, in half precision, but for out/vae; the manifest and the sheet."""
    recipe, (denoiser, text) = trainer.recipe, trainer.kept()
    module = "models.ddt" if recipe.backbone == "ddt" else "diffusers"
    denoiser.half().save_pretrained(out / "unet")
    text.half().save_pretrained(out / "text_encoder")
    parts.tokenizer().save_pretrained(out / "tokenizer")
    parts.scheduler().save_pretrained(out / "scheduler")
    index = {"_class_name": "StableDiffusionPipeline", "feature_extractor": [None, None], "image_encoder": [None, None], "requires_safety_checker": False,
             "safety_checker": [None, None], "scheduler": ["diffusers", "DDIMScheduler"], "text_encoder": ["transformers", "CLIPTextModel"],
             "tokenizer": ["transformers", "PreTrainedTokenizerFast"], "unet": [module, type(denoiser).__name__], "vae": ["diffusers", "AutoencoderKL"]}
    (out / "model_index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    if not (out / "pictures.png").is_file():
        sheet(known, out / "pictures.png")
    run = {"variants": trainer.size.variants, "batch": trainer.size.batch, "lr": trainer.size.lr, "training_steps": trainer.done,
           "passes": round(trainer.passes, 2), "device": trainer.device.type, "compiled": trainer.compiled}
    about = manifest(recipe, known, run)
    keep(about, out)
