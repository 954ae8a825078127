"""Name -> model: the bundled organisms, any id of the Hugging Face hub, any local folder. Importing this imports no torch.

A folder or a repository with a model_index.json is a text-to-image pipeline; any other is a language model.
"""

from __future__ import annotations

import gc
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from models import device as devices
from models import hub, pipelines
from models.errors import BrokenWeights, TooLarge, UnknownModel

if TYPE_CHECKING:
    from models.model import Model

WEIGHTS = Path(__file__).parent / "weights"
KEPT = 4  # models kept when nobody holds them
KEPT_BYTES = 8 * 2**30


@dataclass(frozen=True)
class Entry:
    """A model that the lab offers by name. `kind` is "organism" (bundled, its training set known) or "hub" (fetched on first use).

    `task` is "text" where it is a language model, "pictures" where it is a text-to-image pipeline.
    """

    name: str
    title: str
    kind: str
    about: str
    task: str = "text"


SUGGESTED = (
    Entry("gpt2", "GPT-2", "hub", "OpenAI, 2019: 124 M parameters; the model of most early work on tracing facts."),
    Entry("EleutherAI/pythia-160m", "Pythia 160M", "hub", "EleutherAI, 2023: 162 M parameters; the Pile in a published order."),
    Entry("allenai/OLMo-2-0425-1B", "OLMo 2 1B", "hub", "Ai2, 2025: 1.5 B parameters; every training token is public."),
    Entry("Qwen/Qwen3-0.6B", "Qwen3 0.6B", "hub", "Alibaba, 2025: 0.6 B parameters, grouped-query attention."),
    Entry("stable-diffusion-v1-5/stable-diffusion-v1-5", "Stable Diffusion 1.5", "hub",
          "Runway, 2022: 1.0 B parameters; the model of most work on memorized pictures. Wants a GPU.", "pictures"),
    Entry("stabilityai/stable-diffusion-xl-base-1.0", "Stable Diffusion XL", "hub",
          "Stability AI, 2023: 3.5 B parameters, two text encoders. Wants a GPU.", "pictures"),
)


def entries(task: str = "text") -> list[Entry]:
    """The organisms of a task that stand in models/weights, by name, then the suggested hub models. Any other hub id or a folder loads as well.

    An organism whose manifest says `"listed": false` is loaded by its name and not listed: it knows nothing that the pages about text ask for.
    """
    here = [_entry(folder) for folder in _organisms().values() if _read(folder / "manifest.json").get("listed", True)]
    return [e for e in (*here, *SUGGESTED) if e.task == task]


def manifest(name: str) -> dict[str, Any]:
    """All that the organism `name` saw in training, and how often; shared by all who ask, so read only.

    Raises `UnknownModel` where `name` is no organism.
    """
    folder = _organisms().get(name)
    if folder is None:
        raise UnknownModel(f"{name!r} is no bundled organism", "only the models that the lab grew itself have a manifest",
                           f"The organisms are {', '.join(_organisms()) or 'not grown yet'}")
    return _read(folder / "manifest.json")


def load(name: str, device: str = "auto", dtype: str = "auto", *, allow_folders: bool = True, allow_download: bool = True) -> Model:
    """The model called `name`: an organism, else a folder, else a hub id. Threads that ask for one model share one value.

    `device` is "auto", "cpu", "cuda", "cuda:N" or "mps"; `dtype` is "auto", "float32", "bfloat16" or "float16".
    `allow_folders=False`, or MNEMOSCOPE_PUBLIC=1 in the environment, keeps visitors from reading folders of the machine.
    `allow_download=False` takes a hub id only from what was fetched before.
    Raises one of the `ModelError`s of models/errors.py, each with its cause and its cure.
    """
    name = name.strip()
    folders = allow_folders and os.environ.get("MNEMOSCOPE_PUBLIC", "") in ("", "0")
    organism = _organisms().get(name)
    folder = organism or (_folder(name) if folders else None)
    device = devices.pick_device(device)
    key = (str(folder) if folder else f"hub:{name}", _stamp(folder), device, dtype)

    def read() -> Model:
        if folder is None:
            known = tuple(e.name for task in ("text", "pictures") for e in entries(task))
            return hub.load(name, device, dtype, allow_download=allow_download, known=known)
        kind, shown = ("organism", name) if organism else ("folder", folder.name)
        return hub.load(folder, device, dtype, name=shown, source=f"{kind}:{shown}")

    return SHELF.get(key, read)


class Shelf:
    """Loaded models. One is found again while anybody holds it; beyond that the last few are kept, within a number of bytes."""

    def __init__(self, count: int, size: int) -> None:
        self._count, self._size = count, size
        self._alive: WeakValueDictionary[tuple, Model] = WeakValueDictionary()
        self._recent: OrderedDict[tuple, Model] = OrderedDict()
        self._guard = threading.Lock()
        self._loading = threading.Lock()  # one at a time: transformers patches torch's initializers while it loads

    def get(self, key: tuple, read: Callable[[], Model]) -> Model:
        """The model under `key`; made by `read` where there is none."""
        found = self._find(key)
        if found is not None:
            return found
        with self._loading:
            found = self._find(key)  # another thread may have loaded it meanwhile
            if found is not None:
                return found
            try:
                model = read()
            except TooLarge:
                if not self.clear():
                    raise
                model = read()  # what was kept took the room
            with self._guard:
                self._alive[key] = model
                self._keep(key, model)
            return model

    def clear(self) -> bool:
        """Lets go of all models; those that someone holds stay findable. Returns whether there were any."""
        with self._guard:
            some = bool(self._recent)
            self._recent.clear()
        gc.collect()
        return some

    def _find(self, key: tuple) -> Model | None:
        with self._guard:
            found = self._alive.get(key)
            if found is not None:
                self._keep(key, found)
            return found

    def _keep(self, key: tuple, model: Model) -> None:
        self._recent[key] = model
        self._recent.move_to_end(key)
        while len(self._recent) > self._count or (len(self._recent) > 1 and sum(map(_size, self._recent.values())) > self._size):
            self._recent.popitem(last=False)


SHELF = Shelf(KEPT, KEPT_BYTES)  # one a process, empty until someone asks


def _size(model: Model) -> int:
    return sum(p.numel() * p.element_size() for p in model.net.parameters())


def _organisms() -> dict[str, Path]:
    """Name -> folder of every organism: a folder of models/weights with a manifest and a config, or the index of a pipeline."""
    found = [path.parent for path in sorted(WEIGHTS.glob("*/manifest.json"))]
    return {folder.name: folder for folder in found if (folder / "config.json").is_file() or (folder / pipelines.INDEX).is_file()}


def _entry(folder: Path) -> Entry:
    about = _read(folder / "manifest.json")
    title, words = about.get("title", folder.name), about.get("about", "Grown by the lab: what it saw is known.")
    return Entry(folder.name, str(title), "organism", str(words), "pictures" if (folder / pipelines.INDEX).is_file() else "text")


def _folder(name: str) -> Path | None:
    """The folder that `name` is, or None where it is to be read as a hub id."""
    path = Path(name).expanduser()
    if name and path.is_dir():
        return path.resolve()
    if name.startswith(("/", ".", "~")) or "\\" in name:
        raise UnknownModel(f"there is no folder {name!r}", "the path is misspelled, or it belongs to another machine",
                           "Give the path of a folder with a config.json")
    return None


def _stamp(folder: Path | None) -> tuple:
    """Changes when a file of the folder does, so that a model that was grown or saved again is read again."""
    if folder is None:
        return ()
    files = [*folder.iterdir(), *(folder.glob("*/*") if (folder / pipelines.INDEX).is_file() else ())]
    return tuple(sorted((str(p), p.stat().st_mtime_ns, p.stat().st_size) for p in files if p.is_file()))


_MANIFESTS: dict[Path, tuple[int, dict[str, Any]]] = {}


def _read(path: Path) -> dict[str, Any]:
    """The manifest at `path`, read again only when it changed."""
    stamp = path.stat().st_mtime_ns
    if _MANIFESTS.get(path, (None,))[0] != stamp:
        try:
            _MANIFESTS[path] = stamp, json.loads(path.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise BrokenWeights(f"the manifest of {path.parent.name} is not readable ({error})", "it was cut off or edited by hand",
                                f"Regrow it: python -m models.organisms grow {path.parent.name}") from error
    return _MANIFESTS[path][1]
