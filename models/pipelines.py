"""Text-to-image pipelines from a folder as diffusers saves them: safetensors only, no code from the folder, every fault named."""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models import device as devices
from models import hub
from models.errors import BrokenWeights, NotAPipeline, NoTokenizer, PickleOnly, TooLarge, UnknownModel

if TYPE_CHECKING:
    from models.model import Model

INDEX = "model_index.json"
DENOISERS = {"UNet2DConditionModel": "diffusers", "PixArtTransformer2DModel": "diffusers", "DDT": "models.ddt"}  # class -> where it is
TEXTS = {"CLIPTextModel": "transformers", "CLIPTextModelWithProjection": "transformers"}
VAES = {"AutoencoderKL": "diffusers"}
PARTS = ("unet", "transformer", "text_encoder", "text_encoder_2", "vae")  # with weights
SMALL = ("tokenizer", "tokenizer_2", "scheduler")  # without
STEMS = ("diffusion_pytorch_model", "model")  # how weight files are called
READS = "The lab reads Stable Diffusion 1, 2 and XL, and what is built of the same parts"
CONVERT = ("Convert it once, on a machine where you trust it: DiffusionPipeline.from_pretrained(..., use_safetensors=False)"
           ".save_pretrained(FOLDER), and load FOLDER")


def is_pipeline(names: Iterable[str]) -> bool:
    """Whether a folder or repository with the files `names` holds a pipeline."""
    return INDEX in names


def wanted(name: str, files: Iterable[str]) -> list[str]:
    """Of a repository's `files`, by their paths, those to fetch. Raises `PickleOnly` or `BrokenWeights` where no part can be read."""
    files = set(files)
    found = [INDEX]
    for part in (*PARTS, *SMALL):
        inside = {f.partition("/")[2] for f in files if f.startswith(f"{part}/")}
        keep = {n for n in inside if n.endswith((".json", ".txt")) and not n.endswith(".index.json")}
        if part in PARTS and inside:
            keep |= set(_weights(name, part, inside))
        found += sorted(f"{part}/{n}" for n in keep)
    return found


def complete(folder: Path) -> bool:
    """Whether all that a pipeline needs lies in its folder."""
    try:
        parts = _parts(folder, folder.name)
        return all((folder / part / n).is_file() for part in parts if part in PARTS for n in _weights(folder.name, part, _names(folder / part)))
    except (BrokenWeights, NotAPipeline, PickleOnly):
        return False


def _names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir() if p.is_file()}


def load(folder: Path, device: str = "auto", dtype: str = "auto", *, name: str = "", source: str = "") -> Model:
    """The pipeline in `folder` as a Model whose net is a `models.pipeline.Pipeline`: in `eval()`, frozen, the VAE in float32.

    Where the parts do not fit the device's memory but fit the machine's, the denoiser and the text encoders are moved to the device block by block as they
    are used (sequential offload), and pictures are decoded one by one.
    Raises a `ModelError` of models/errors.py that names fault, cause and cure.
    """
    from models.model import Model
    from models.pipeline import Pipeline

    name = name or folder.name
    if not folder.is_dir():
        raise UnknownModel(f"there is no folder {folder.name!r}", "the path is misspelled", f"Give the path of a folder with a {INDEX}")
    parts = _parts(folder, name)
    device = devices.pick_device(device)
    count = sum(_count(folder / part) for part in parts if part in PARTS)
    kind = devices.pick_dtype(dtype, device, count)
    spot, offload = _place(count * kind.itemsize, device)
    tokenizer = hub._read_tokenizer(folder / "tokenizer", name)
    body = "unet" if "unet" in parts else "transformer"
    read = {part: _read(folder / part, parts[part], name, kind if part != "vae" else _full()) for part in parts if part in PARTS}
    _check(name, read[body], read["vae"], read["text_encoder"], tokenizer)
    index = hub._read_json(folder / INDEX)
    net = Pipeline(read[body], read["text_encoder"], read["vae"], hub._read_json(folder / "scheduler" / "scheduler_config.json"),
                   text_2=read.get("text_encoder_2"), pad_2=_pad_2(folder, name, tokenizer) if "text_encoder_2" in read else None,
                   blank_is_zero=bool(index.get("force_zeros_for_empty_prompt", False)))
    net.eval().requires_grad_(False)
    if offload:
        _offload(net, spot)
    else:
        net.to(spot)
    return Model(name, net, tokenizer, source=source or f"folder:{folder.name}", folder=folder)


def _full() -> Any:
    import torch

    return torch.float32  # half precision overflows in some decoders


def _parts(folder: Path, name: str) -> dict[str, str]:
    """Part -> its class, as the index lists them; all that can be told without reading weights is checked."""
    if not (folder / INDEX).is_file():
        raise NotAPipeline(f"{name} has no {INDEX}", "only a part of a pipeline was saved, or the folder above or below it was meant",
                           "Give the folder that DiffusionPipeline.save_pretrained wrote")
    index = hub._read_json(folder / INDEX)
    listed = {k: v[1] for k, v in index.items() if isinstance(v, list) and len(v) == 2 and isinstance(v[1], str)}
    parts = {k: v for k, v in listed.items() if k in (*PARTS, *SMALL)}
    if ("unet" in parts) == ("transformer" in parts) or not {"vae", "text_encoder", "tokenizer", "scheduler"} <= set(parts):
        raise NotAPipeline(f"{name} ({index.get('_class_name', 'a pipeline')}) is no text-to-image pipeline that the lab reads",
                           f"its parts are {', '.join(listed) or 'not listed'}", READS)
    known = {"unet": DENOISERS, "transformer": DENOISERS, "text_encoder": TEXTS, "text_encoder_2": TEXTS, "vae": VAES}
    for part, kind in parts.items():
        if part in known and kind not in known[part]:
            raise NotAPipeline(f"the {part} of {name} is a {kind}", f"the lab reads {', '.join(known[part])}", READS)
        if not (folder / part).is_dir():
            raise BrokenWeights(f"{name} has no folder {part!r}", "saving or fetching it was cut off", "Save or fetch it again")
        if part in PARTS:
            _weights(name, part, _names(folder / part))
    if not (folder / "scheduler" / "scheduler_config.json").is_file():
        raise BrokenWeights(f"{name} has no scheduler_config.json", "saving or fetching it was cut off", "Save or fetch it again")
    return parts


def _weights(name: str, part: str, names: set[str]) -> list[str]:
    """The weight files of a part among its files `names`: plain ones before those of half precision ("fp16"), with the index of several."""
    for variant in ("", ".fp16"):
        for stem in STEMS:
            single, index = f"{stem}{variant}.safetensors", f"{stem}.safetensors.index{variant}.json"
            if single in names:
                return [single]
            if index in names:
                shards = re.compile(rf"{stem}{re.escape(variant)}-\d+-of-\d+\.safetensors|{stem}-\d+-of-\d+{re.escape(variant)}\.safetensors")
                return [index, *sorted(n for n in names if shards.fullmatch(n))]
    if pickles := hub._pickles(names):
        raise PickleOnly(f"{name} has the weights of its {part} only as pickle ({', '.join(pickles[:3])})",
                         "reading a pickle can run any code, so the lab never does", CONVERT)
    raise BrokenWeights(f"the {part} of {name} has no safetensors file", "saving or fetching it was cut off, or it is of another library",
                        "Save it again with save_pretrained")


def _files(folder: Path) -> list[str]:
    return _weights(folder.parent.name, folder.name, _names(folder))


def _count(folder: Path) -> int:
    """Number of stored parameters of a part, from the headers alone."""
    from safetensors import SafetensorError, safe_open

    total = 0
    for path in (folder / n for n in _files(folder) if n.endswith(".safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                total += sum(math.prod(file.get_slice(k).get_shape()) for k in file.keys())  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise BrokenWeights(f"{folder.name}/{path.name} cannot be read ({hub._first_line(error)})", "its download or copy was cut off",
                                "Fetch or save it again") from error
    return total


def _place(size: int, device: str) -> tuple[str, bool]:
    """(device, whether the parts go there only as they are used)."""
    try:
        if (spot := devices.place(size, device)) != devices.SPREAD:
            return spot, False
    except TooLarge:
        if not device.startswith("cuda") or size * devices.SPARE > devices.free_memory("cpu"):
            raise
    return device, True


def _read(folder: Path, kind: str, name: str, dtype: Any) -> Any:
    """One part. Raises `BrokenWeights` where file and config disagree, `TooLarge` where memory runs out after all."""
    import torch
    from safetensors import SafetensorError
    from transformers.utils import logging

    logging.disable_progress_bar()
    made: Any = getattr(importlib.import_module({**DENOISERS, **TEXTS, **VAES}[kind]), kind)
    half = "fp16" if any(".fp16" in n for n in _files(folder)) else None
    how: dict[str, Any] = {"dtype": dtype} if kind in TEXTS else {"torch_dtype": dtype}
    try:
        net, report = made.from_pretrained(folder, use_safetensors=True, local_files_only=True, variant=half, output_loading_info=True, **how)
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise TooLarge(f"{name} does not fit the memory", "other models are loaded there", "Choose a smaller model") from error
    except (RuntimeError, ValueError, KeyError, TypeError, OSError, AttributeError, SafetensorError) as error:
        raise BrokenWeights(f"the weights of the {folder.name} of {name} do not fit its config.json ({hub._first_line(error)})",
                            "one of the two is damaged or of another model", "Fetch or save it again") from error
    if missing := sorted(k for k in report["missing_keys"] if not k.endswith("position_ids")):
        raise BrokenWeights(f"the weights of the {folder.name} of {name} lack {missing[0]}" + (f" and {len(missing) - 1} more" if len(missing) > 1 else ""),
                            "they were cut off or are of another model", "Fetch or save it again")
    return net


def _check(name: str, denoiser: Any, vae: Any, text: Any, tokenizer: Any) -> None:
    """Raises where the parts are no text-to-image model together."""
    if denoiser.config.in_channels != vae.config.latent_channels:
        raise NotAPipeline(f"the denoiser of {name} reads {denoiser.config.in_channels} channels, but its VAE makes {vae.config.latent_channels}",
                           "it edits or fills in pictures, which takes a picture beside the noise", READS)
    if getattr(denoiser.config, "sample_size", None) is None:
        raise BrokenWeights(f"the denoiser of {name} does not say its sample_size", "its config.json was edited", "Save or fetch it again")
    if len(tokenizer) > 1.01 * text.get_input_embeddings().weight.shape[0]:
        raise NoTokenizer(f"the tokenizer of {name} has {len(tokenizer)} tokens, but its text encoder knows {text.get_input_embeddings().weight.shape[0]}",
                          "it belongs to another model", "Save the pipeline's own tokenizer into the folder")


def _pad_2(folder: Path, name: str, tokenizer: Any) -> int | None:
    """What fills up a prompt for the second encoder, None where that is as for the first. Both tokenizers must have the same words."""
    if not (folder / "tokenizer_2").is_dir():
        raise NoTokenizer(f"{name} has two text encoders, but one tokenizer", "saving or fetching it was cut off", "Save or fetch it again")
    second = hub._read_tokenizer(folder / "tokenizer_2", name)
    if second.get_vocab() != tokenizer.get_vocab():
        raise NotAPipeline(f"the two tokenizers of {name} have other words", "its text encoders are of different families", READS)
    return second.pad_token_id if second.pad_token_id != tokenizer.pad_token_id else None


def _offload(net: Any, spot: str) -> None:
    """Keeps denoiser and text encoders in the machine's memory; every block goes to `spot` while it runs. The VAE stays there, one picture at a time."""
    import torch
    from accelerate import cpu_offload

    for part in (net.denoiser, net.text, net.text_2):
        if part is not None:
            cpu_offload(part, torch.device(spot), offload_buffers=True)
    net.vae.to(spot).enable_slicing()
    net.alphas = net.alphas.to(spot)
