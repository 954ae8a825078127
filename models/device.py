"""Which device, which precision, and whether a model fits. torch is imported only when asked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from models.errors import BadInput, TooLarge

if TYPE_CHECKING:
    import torch

DTYPES = ("float32", "bfloat16", "float16")
SMALL = 2**28  # parameters: up to here (1 GiB in float32) precision is worth more than speed on any device
SPARE = 1.2  # activations and buffers, over the weights
SPREAD = "auto"  # transformers' word for a device map of its own making


def best_device() -> str:
    """ "cuda", "mps" or "cpu": the first that is there."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def pick_device(device: str) -> str:
    """`device` itself where this machine has it; the best for "auto". Raises `BadInput` else."""
    import torch

    if device == "auto":
        return best_device()
    here = {"cpu", *(["mps"] if torch.backends.mps.is_available() else [])}
    if torch.cuda.is_available():
        here |= {"cuda", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))}
    if device not in here:
        raise BadInput(f"there is no device {device!r} here", "the machine lacks it, or torch was installed without it",
                       f"Choose auto or {' or '.join(sorted(here))}", setting="device")
    return device


def pick_dtype(dtype: str, device: str, parameters: int) -> torch.dtype:
    """The dtype of the weights in memory, whatever the file's.

    "auto" is float32 on the CPU and on MPS, and for small models everywhere; else bfloat16, or float16 where CUDA lacks that.
    """
    import torch

    if dtype == "auto":
        if not device.startswith("cuda") or parameters <= SMALL:
            return torch.float32
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if dtype not in DTYPES:
        raise BadInput(f"dtype is {dtype!r}", f"it is one of auto, {', '.join(DTYPES)}", setting="dtype")
    return getattr(torch, dtype)


def place(size: int, device: str) -> str:
    """`device` where `size` bytes of weights fit it, or `SPREAD` where a model for CUDA must go over several devices.

    Raises `TooLarge` where they fit nowhere.
    """
    need = int(size * SPARE)
    if need <= free_memory(device):
        return device
    if device == "cuda" and need <= free_memory("cpu") + all_cuda_memory():
        return SPREAD
    raise TooLarge(f"the model takes {gib(need)}, but {device} has {gib(free_memory(device))} free",
                   "every weight has to lie in memory at once",
                   "Choose a smaller model, a larger device, or dtype bfloat16, which halves float32")


def free_memory(device: str) -> int:
    """Bytes that a model may take on `device` now."""
    import torch

    if device.startswith("cuda"):
        return torch.cuda.mem_get_info(torch.device(device))[0]
    if device == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    import psutil  # type: ignore[import-untyped]

    return min(psutil.virtual_memory().available, container_memory())


def all_cuda_memory() -> int:
    import torch

    return sum(torch.cuda.mem_get_info(i)[0] for i in range(torch.cuda.device_count()))


def container_memory(root: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that a container's limit leaves; without a limit, more than any machine has. A host's own figure knows nothing of the limit."""
    try:
        limit, used = ((root / name).read_text().strip() for name in ("memory.max", "memory.current"))
        stat = dict(line.split(maxsplit=1) for line in (root / "memory.stat").read_text().splitlines())
    except OSError:
        return 2**62
    return 2**62 if limit == "max" else int(limit) - int(used) + int(stat.get("inactive_file", "0"))  # cached files make way


def gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
