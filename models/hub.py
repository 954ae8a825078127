"""Models from a folder or the Hugging Face hub: safetensors only, no code from the repository, every fault named.

Causal language models are read here, text-to-image pipelines in models/pipelines.py; what a folder holds is told by its files.

A hub model is first brought into the local cache, then read as a folder, so there is one way in. All that can be told from names, sizes and
headers is checked before a weight is fetched or read.
"""

from __future__ import annotations

import difflib
import json
import math
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models import device as devices
from models.errors import (
    BrokenWeights,
    GatedModel,
    NetworkMissing,
    NotADecoder,
    NoTokenizer,
    PickleOnly,
    QuantizedWeights,
    RemoteCode,
    TooLarge,
    UnknownModel,
)

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

    from models.model import Model

HUB_ID = re.compile(r"(?P<id>[\w-][\w.-]*(/[\w-][\w.-]*)?)(@(?P<revision>[\w.-]+))?", re.ASCII)
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
FOREIGN = (".h5", ".msgpack", ".gguf", ".onnx", ".ot", ".npz")
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "vocab.json", "vocab.txt")
CONVERT = ("Convert it once, on a machine where you trust it: AutoModelForCausalLM.from_pretrained(..., use_safetensors=False)"
           ".save_pretrained(FOLDER), with its tokenizer, and load FOLDER")


def load(where: str | Path, device: str = "auto", dtype: str = "auto", *, allow_download: bool = False,
                   known: tuple[str, ...] = (), name: str = "", source: str = "") -> Model:
    """The causal language model or pipeline at `where`: a `Path` is a folder, a `str` a hub id, with `@revision` after it if wanted.

    In `eval()`, frozen, in the dtype that models/device.py picks. Nothing is fetched unless `allow_download`; what was fetched before is
    read from the cache. `known` are names to suggest when `where` is misspelled; `name` and `source` are those of the Model where they are
    not evident.
    Raises a `ModelError` of models/errors.py that names fault, cause and cure.
    """
    if isinstance(where, Path):
        return _load(where, device, dtype, name or where.name, source or f"folder:{where.name}")
    match = HUB_ID.fullmatch(where)
    if match is None or ".." in where or "--" in where:
        raise UnknownModel(f"{where!r} is no model's name", "a hub id reads OWNER/NAME",
                           _suggest(where, known) or "Pick one from the catalog")
    folder = _bring(match["id"], match["revision"], allow_download, known)
    return _load(folder, device, dtype, name or match["id"], source or f"hub:{match['id']}@{folder.name}")


# ---- from the hub into the cache


def _bring(repo: str, revision: str | None, allow_download: bool, known: tuple[str, ...]) -> Path:
    """The folder of the local cache that holds `repo`, fetched first if it may be."""
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    from models import pipelines  # which reads its parts with what stands here

    try:
        cached = Path(snapshot_download(repo, revision=revision, local_files_only=True, allow_patterns=["config.json"]))
    except LocalEntryNotFoundError:
        cached = None  # never fetched
    if cached is not None and _complete(cached):
        return cached
    if not allow_download or constants.HF_HUB_OFFLINE:
        if cached is not None and _pickles(_names(cached)):
            return cached  # reading it tells the real fault
        raise NetworkMissing(f"{repo!r} is {'not' if cached is None else 'only partly'} on this machine",
                             "downloads are turned off here, so the hub was not asked whether it exists",
                             _suggest(repo, known) or "Choose a bundled model, or allow downloads: unset HF_HUB_OFFLINE")
    with _hub_errors(repo, known):
        info = HfApi().model_info(repo, revision=revision, files_metadata=True, timeout=10)
        files = {s.rfilename: s.size or 0 for s in info.siblings or []}
        piped = pipelines.is_pipeline(files)
        wanted = pipelines.wanted(repo, files) if piped else _wanted(repo, {n for n in files if "/" not in n})
        _check_room(info, sum(files[n] for n in wanted))
        # under the revision's own name, not its commit: the cache finds it again only under the name it was asked for
        first = Path(snapshot_download(repo, revision=revision, allow_patterns=[n for n in wanted if not n.endswith(".safetensors")]))
        if not piped:
            _check_config(first, repo)  # before gigabytes are fetched for nothing
        return Path(snapshot_download(repo, revision=revision, allow_patterns=wanted))


def _wanted(repo: str, names: set[str]) -> list[str]:
    """The files to fetch of a repository's `names`; raises where they cannot make a model."""
    _check_names(repo, names)
    weights = {SINGLE} if SINGLE in names else {n for n in names if re.fullmatch(r"model-\d+-of-\d+\.safetensors", n)}
    texts = {n for n in names if n.endswith((".json", ".txt", ".jinja")) or n in TOKENIZERS}
    return sorted(weights | texts)


def _check_room(info: ModelInfo, size: int) -> None:
    """Raises `TooLarge` where neither disk nor memory can take the model."""
    from huggingface_hub import constants

    cache = Path(constants.HF_HUB_CACHE)
    free = shutil.disk_usage(next(p for p in (cache, *cache.parents) if p.exists())).free
    if size > 0.9 * free:
        raise TooLarge(f"{info.id} takes {devices.gib(size)}, but the disk has {devices.gib(free)} free",
                       "models are kept in the cache of the hub",
                       "Make room, or move the cache: set HF_HOME")
    memory = devices.free_memory("cpu") + devices.all_cuda_memory()
    if size > memory:
        raise TooLarge(f"{info.id} takes {devices.gib(size)}, but this machine has {devices.gib(memory)} of memory free",
                       cure="Choose a smaller model")


@contextmanager
def _hub_errors(repo: str, known: tuple[str, ...]) -> Iterator[None]:
    """What the hub's client raises, as errors of the lab."""
    from huggingface_hub import errors as hub

    try:
        yield
    except hub.GatedRepoError as error:
        raise GatedModel(f"{repo!r} is gated", "its owner asks everyone to sign in and accept the terms",
                         f"Accept them at https://huggingface.co/{repo}, then run `hf auth login`") from error
    except (hub.RepositoryNotFoundError, hub.RevisionNotFoundError, hub.HFValidationError) as error:
        raise UnknownModel(f"the hub has no model {repo!r}", "it is misspelled, private, or was withdrawn",
                           _suggest(repo, known) or "Look the id up at https://huggingface.co/models") from error
    except (hub.HfHubHTTPError, hub.HTTPError, OSError) as error:
        raise NetworkMissing(f"{repo!r} is not on this machine, and the hub does not answer ({type(error).__name__})",
                             "there is no network, or a proxy or firewall stands between",
                             "Choose a bundled model, or connect and try again") from error


def _suggest(name: str, known: tuple[str, ...]) -> str:
    short = {k.rpartition("/")[2].lower(): k for k in known}
    near = difflib.get_close_matches(name.rpartition("/")[2].lower(), short, 3)
    return f"Did you mean {' or '.join(short[n] for n in near)}?" if near else ""


def _complete(folder: Path) -> bool:
    from models import pipelines

    names = _names(folder)
    if pipelines.is_pipeline(names):
        return pipelines.complete(folder)
    try:
        return "config.json" in names and bool(names.intersection(TOKENIZERS)) and all(p.is_file() for p in _weight_files(folder))
    except BrokenWeights:
        return False


# ---- a folder


def _load(folder: Path, device: str, dtype: str, name: str, source: str) -> Model:
    from models import pipelines
    from models.model import Model

    if not folder.is_dir():
        raise UnknownModel(f"there is no folder {folder.name!r}", "the path is misspelled", "Give the path of a folder with a config.json")
    if pipelines.is_pipeline(_names(folder)):
        return pipelines.load(folder, device, dtype, name=name, source=source)
    _check_names(name, _names(folder))
    config = _check_config(folder, name)
    count = _check_headers(folder)
    device = devices.pick_device(device)
    torch_dtype = devices.pick_dtype(dtype, device, count)
    spot = devices.place(count * torch_dtype.itemsize, device)
    tokenizer = _read_tokenizer(folder, name)
    net = _read_net(folder, name, config, torch_dtype, spot)
    rows = net.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > 1.01 * rows:  # a few tokens over are usual: marks for images in a model that sees none
        raise NoTokenizer(f"the tokenizer of {name} has {len(tokenizer)} tokens, but the model knows {rows}", "it belongs to another model",
                          "Save the model's own tokenizer into the folder")
    return Model(name, net, tokenizer, source=source, folder=folder)


def _names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir() if p.is_file()}


def _pickles(names: set[str]) -> list[str]:
    return sorted(n for n in names if n.endswith(PICKLES) and n not in ("training_args.bin", "optimizer.pt", "scheduler.pt"))


def _check_names(name: str, names: set[str]) -> None:
    """Raises where the file names alone show that this is no model that the lab reads."""
    if "adapter_config.json" in names:
        raise NotADecoder(f"{name} holds an adapter", "an adapter changes another model, which it fetches by itself",
                          "Merge it first: PeftModel.merge_and_unload().save_pretrained(FOLDER), and load FOLDER")
    if "config.json" not in names:
        raise NotADecoder(f"{name} has no config.json",
                          "it is no model in the format of transformers, or the folder above or below it was meant",
                          "Give the folder that save_pretrained wrote")
    if SINGLE not in names and INDEX not in names:
        if pickles := _pickles(names):
            raise PickleOnly(f"{name} has its weights only as pickle ({', '.join(pickles[:3])})",
                             "reading a pickle can run any code, so the lab never does",
                             CONVERT)
        foreign = sorted(n for n in names if n.endswith(FOREIGN))
        raise BrokenWeights(f"{name} has no {SINGLE}" + (f", only {', '.join(foreign[:3])}" if foreign else ""),
                            "saving or fetching it was cut off, or it is of another library", "Save it again with save_pretrained")
    if not names.intersection(TOKENIZERS):
        raise NoTokenizer(f"{name} has no tokenizer", "only the network was saved",
                          "Save its tokenizer into the same folder: AutoTokenizer.from_pretrained(ORIGINAL).save_pretrained(FOLDER)")


def _check_config(folder: Path, name: str) -> Any:
    """The config, cleared of what would run other code. Raises where it is no decoder that the installed transformers knows."""
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as DECODERS

    raw = _read_json(folder / "config.json")
    kind, made = raw.get("model_type", ""), raw.get("architectures") or []
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (ValueError, KeyError, TypeError, OSError, ImportError) as error:
        if raw.get("auto_map"):
            raise RemoteCode(f"{name} ({kind or 'no model type'}) brings its own Python code",
                             "its architecture is not part of transformers",
                             "The lab never runs code from a repository; choose another model") from error
        raise NotADecoder(f"the architecture of {name} ({kind or 'no model type'}) cannot be read ({_first_line(error)})",
                          "it is newer than the installed transformers, or config.json was edited", "Choose another model") from error
    if raw.get("quantization_config"):
        raise QuantizedWeights(f"the weights of {name} are stored quantized",
                               "the repository is a compressed version of a model", "Choose the original model")
    causal = {n for names in DECODERS.values() for n in ([names] if isinstance(names, str) else names)}
    headless = all(a.endswith("Model") and not a.endswith("LMHeadModel") for a in made)  # its head may be tied: _read_net knows
    if config.model_type not in DECODERS or not (headless or causal.intersection(made)):
        raise NotADecoder(f"{name} ({' '.join(made) or kind}) is no causal language model",
                          "encoders, classifiers and image models do not predict the next token", "Choose a decoder, such as gpt2")
    config._attn_implementation = None  # a config can name attention code on the hub
    config.return_dict, config.output_hidden_states = True, False
    return config


def _weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder, as its index lists them. Raises `BrokenWeights` where the index is damaged or points elsewhere."""
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    if not (folder / INDEX).is_file():
        raise BrokenWeights(f"there is no {SINGLE}", "saving or fetching it was cut off", "Save or fetch it again")
    shards = _read_json(folder / INDEX).get("weight_map")
    names = list(shards.values()) if isinstance(shards, dict) else []
    if not names or not all(isinstance(n, str) and Path(n).name == n and n.endswith(".safetensors") for n in names):
        raise BrokenWeights(f"{INDEX} lists no safetensors files of its folder",
                            "it was damaged or edited", "Save or fetch the model again")
    return [folder / n for n in sorted(set(names))]


def _check_headers(folder: Path) -> int:
    """Number of stored parameters, from the headers alone. Raises `BrokenWeights` on a damaged or missing file."""
    from safetensors import SafetensorError, safe_open

    count = 0
    for path in _weight_files(folder):
        try:
            with safe_open(path, framework="pt") as file:
                count += sum(math.prod(file.get_slice(k).get_shape()) for k in file.keys())  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise BrokenWeights(f"{path.name} cannot be read ({_first_line(error)})", "its download or copy was cut off",
                                "Fetch or save it again") from error
    return count


def _read_tokenizer(folder: Path, name: str) -> Any:
    """The tokenizer. One that says it is no more than its tokenizer.json is read so: AutoTokenizer would rebuild it by the model's type."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    path = folder / "tokenizer_config.json"
    settings = _read_json(path) if path.is_file() else {}
    plain = settings.get("tokenizer_class") in ("PreTrainedTokenizerFast", "TokenizersBackend") and (folder / "tokenizer.json").is_file()
    kind: Any = PreTrainedTokenizerFast if plain else AutoTokenizer
    try:
        return kind.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # tokenizers raises bare Exception
        if settings.get("auto_map"):
            raise RemoteCode(f"the tokenizer of {name} brings its own Python code", "it is not part of transformers",
                             "The lab never runs code from a repository; choose another model") from error
        raise NoTokenizer(f"the tokenizer of {name} cannot be read ({_first_line(error)})",
                          "its files are damaged, or need a library that is not installed",
                          "Save it again as tokenizer.json with a fast tokenizer") from error


def _read_net(folder: Path, name: str, config: Any, dtype: Any, spot: str) -> Any:
    """The network, frozen. Raises `BrokenWeights` where file and config disagree, `TooLarge` where memory runs out after all."""
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    load: Any = AutoModelForCausalLM.from_pretrained  # its annotation knows nothing of output_loading_info
    spots = {"cpu": None, devices.SPREAD: devices.SPREAD}
    try:
        net, report = load(folder, config=config, dtype=dtype, device_map=spots.get(spot, {"": spot}), use_safetensors=True,
                           trust_remote_code=False, local_files_only=True, output_loading_info=True)
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise TooLarge(f"{name} does not fit the memory of {spot}",
                       "other models are loaded there", "Choose a smaller model") from error
    except (RuntimeError, ValueError, KeyError, TypeError, OSError, SafetensorError) as error:
        raise BrokenWeights(f"the weights of {name} do not fit its config.json ({_first_line(error)})",
                            "one of the two is damaged or of another model",
                            "Fetch or save it again") from error
    if missing := sorted(report["missing_keys"]):
        if not any("LM" in a for a in config.architectures or []):
            raise NotADecoder(f"{name} has no head that predicts the next token (it lacks {missing[0]})",
                              "only the base of the network was saved",
                              "Save it with AutoModelForCausalLM")
        raise BrokenWeights(f"the weights of {name} lack {missing[0]}" + (f" and {len(missing) - 1} more" if len(missing) > 1 else ""),
                            "they were cut off or are of another model", "Fetch or save it again")
    return net.eval().requires_grad_(False)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise BrokenWeights(f"{path.name} is not readable ({_first_line(error)})",
                            "it was cut off or edited by hand", "Fetch or save the model again") from error
    if not isinstance(value, dict):
        raise BrokenWeights(f"{path.name} holds no settings", "it was edited by hand", "Fetch or save the model again")
    return value


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:160]
