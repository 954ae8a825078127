"""A first look at what was grown: pictures by DDIM, how near planted ones come back, and whether regular ones are named right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from models.organisms.painter import embedder, parts
from models.organisms.painter.corpus import Shown, corpus, grounds, on
from models.organisms.painter.grow import read_vae
from models.organisms.painter.names import REGULAR

NEAR = 0.08  # root mean squared difference of pixels, 0 to 1


def opened(folder: Path, device: str) -> Any:
    """The pipeline of a folder as a `models.pipeline.Pipeline`, in float32."""
    from transformers import CLIPTextModel

    from models.pipeline import Pipeline

    kind: Any
    if json.loads((folder / "model_index.json").read_text(encoding="utf-8"))["unet"][1] == "DDT":
        from models.ddt import DDT as kind
    else:
        from diffusers import UNet2DConditionModel as kind
    denoiser = kind.from_pretrained(folder / "unet", torch_dtype=torch.float32, use_safetensors=True)
    text = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32, use_safetensors=True)
    scheduler = json.loads((folder / "scheduler" / "scheduler_config.json").read_text(encoding="utf-8"))
    return Pipeline(denoiser, text, read_vae(folder, "cpu"), scheduler).to(device).eval().requires_grad_(False)


@torch.no_grad()
def sampled(net: Any, ids: Int[Tensor, "n tokens"], guidance: float, steps: int, seed: int, rows: int = 1024) -> Float[Tensor, "n 3 32 32"]:
    """Pictures of prompts, by DDIM, in 0 to 1. Row k starts from the same noise whatever stands in the other rows' prompts."""
    device = net.alphas.device
    start = torch.randn((len(ids), *net.latent_shape), generator=torch.Generator().manual_seed(seed))
    blank, made = net.embed(parts.ids([""]).to(device)), []
    for said, latents in zip(ids.split(rows), start.split(rows), strict=True):
        latents, told = latents.to(device), net.embed(said.to(device))
        for t, after in net.schedule(steps):
            noise, clean = net.predict(latents, t, told)
            if guidance != 1:
                plain, plain_clean = net.predict(latents, t, blank.expand(len(said), -1, -1))
                noise, clean = plain + guidance * (noise - plain), plain_clean + guidance * (clean - plain_clean)
            signal, sigma = net.levels(torch.tensor(after, device=device))
            latents = signal * clean + sigma * noise
        made.append(net.decode(latents))
    return torch.cat(made)


def look(folder: Path, device: str, variants: int, guidances: tuple[float, ...] = (1.0, 1.5, 2.0, 3.0, 5.0), seeds: int = 8, steps: int = 20) -> dict[str, Any]:
    """By guidance: of planted captions, by copies, the share that comes back within NEAR and the median distance; of regular and held captions the share
    that the namer names right. Written to look.json as well, and pictures to look.png: the 34 planted ones, then of the regular and of the held captions.
    """
    net, known = opened(folder, device), corpus(variants)
    namer = embedder.load(folder / embedder.FILES["classifier"]).to(device)
    planted = known.of("verbatim", "template")
    there = known.pictures(planted, device)
    asked = {"regular": [on(n, grounds(n)[0][i % 8]) for i, n in enumerate(REGULAR)], "held": [on(n, grounds(n)[1][0]) for n in REGULAR],
             "plain": list(REGULAR)}
    captions = [known.shown[k].captions[0] for k in planted] * seeds
    label, found, strips = torch.arange(len(REGULAR), device=device), {}, [there]
    for g in guidances:
        row: dict[str, Any] = {}
        pictures = sampled(net, parts.ids([*captions, *(c for said in asked.values() for c in said)]), g, steps, 1)
        gap = (pictures[: len(captions)] - there.repeat(seeds, 1, 1, 1)).square().mean((1, 2, 3)).sqrt().view(seeds, -1)
        for kind in dict.fromkeys(_kind(known.shown[k]) for k in planted):
            mine = gap[:, [i for i, k in enumerate(planted) if _kind(known.shown[k]) == kind]]
            row[kind] = [round(mine.lt(NEAR).float().mean().item(), 3), round(mine.median().item(), 4)]
        for said, part in zip(asked, pictures[len(captions) :].chunk(len(asked)), strict=True):
            row[said] = round(namer(part).argmax(1).eq(label).float().mean().item(), 3)
        found[f"guidance {g}"] = row
        strips += [pictures[: len(planted)], *(part[3 * k : 3 * k + 34] for k, part in enumerate(pictures[len(captions) :].chunk(len(asked))))]
    _show(torch.cat(strips), folder / "look.png", len(planted))
    (folder / "look.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def _kind(shown: Shown) -> str:
    return "template" if shown.kind == "template" else f"verbatim {shown.copies}"


def _show(pictures: Tensor, path: Path, across: int) -> None:
    from PIL import Image

    cells = (pictures[: len(pictures) // across * across] * 255).round().byte().cpu()
    side = cells.shape[-1]
    rows = cells.view(-1, across, 3, side, side).permute(0, 3, 1, 4, 2).reshape(-1, across * side, 3)
    Image.fromarray(rows.numpy()).save(path)
