"""The whole family on one machine: VAE, eyes and three denoisers, each a process of its own, in the minutes that there are."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

from models.organisms.painter.recipe import RECIPES

VAE_SHARE, EYES_SHARE, END_SHARE = 0.17, 0.2, 0.06  # of the minutes: for the VAE, the eyes beside it, and the look and the packing at the end
LEAST_END = 14.0  # seconds
TOGETHER = ("painter", "painter-oracle")  # do as many steps as each other


def everything(device: str, size: str, minutes: float, out: Path, compiled: bool, say: Callable[[str], None]) -> None:
    """Leaves a folder and a .tar of each of RECIPES in `out`, and the log of every process. Raises RuntimeError where one failed."""
    out.mkdir(parents=True, exist_ok=True)
    shared, total, began = out / "shared", 60 * minutes, time.time()
    shared.mkdir(exist_ok=True)
    for stale in (*out.glob("*.pace"), *shared.glob("*.done")):
        stale.unlink()
    finish = began + total - max(LEAST_END, END_SHARE * total)
    common = ["--device", device, "--size", size]
    children = {"vae": _start(["vae", *common, "--seconds", str(VAE_SHARE * total), "--out", str(shared)], out / "vae.log"),
                "eyes": _start(["eyes", *common, "--seconds", str(EYES_SHARE * total), "--out", str(shared)], out / "eyes.log")}
    for name in RECIPES:
        more = ["--compile"] if compiled else []
        pace = ["--pace", str(out), *TOGETHER] if name in TOGETHER else []
        children[name] = _start(["grow", name, *common, *more, *pace, "--finish", str(finish), "--shared", str(shared), "--out", str(out / name)],
                                out / f"{name}.log")
    seen, packed = dict.fromkeys(children, 0), set[str]()
    try:
        while len(packed) < len(RECIPES):
            time.sleep(0.3)
            if children["vae"].poll() not in (None, 0):  # nothing can be grown without it
                break
            for name in children:
                seen[name] = _tell(out / f"{name}.log", name, seen[name], say)
            for name in RECIPES:
                if name not in packed and children[name].poll() is not None:
                    packed.add(name)
                    _pack(out, name)
    finally:
        for child in children.values():
            if child.poll() is None:
                child.kill()
            child.wait()
    if failed := [name for name, child in children.items() if child.returncode]:
        raise RuntimeError(f"{', '.join(failed)} failed; see the logs in {out}")


def _pack(out: Path, name: str) -> None:
    """The folder of a model as one file, where there is one."""
    if (out / name / "model_index.json").is_file():
        with tarfile.open(out / f"{name}.tar", "w") as pack:
            pack.add(out / name, name)


def wait_for(path: Path, seconds: float = 600.0) -> None:
    """Returns once `path` is there. Raises TimeoutError where it does not come."""
    until = time.time() + seconds
    while not path.exists():
        if time.time() > until:
            raise TimeoutError(f"{path} did not come in {seconds:.0f} s")
        time.sleep(0.1)


def agreed(folder: Path, mine: str, names: tuple[str, ...], pace: float, patience: float = 20.0) -> float:
    """The lowest speed among `names`, of those that tell theirs in time. Every process writes its own to `folder`."""
    part = folder / f"{mine}.pace.part"
    part.write_text(str(pace), encoding="utf-8")
    part.rename(folder / f"{mine}.pace")
    until = time.time() + patience
    files = [folder / f"{n}.pace" for n in names]
    while time.time() < until and not all(f.exists() for f in files):
        time.sleep(0.05)
    return min(float(f.read_text(encoding="utf-8")) for f in files if f.exists())


def _start(args: list[str], log: Path) -> subprocess.Popen[bytes]:
    threads = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    with log.open("wb") as file:
        return subprocess.Popen([sys.executable, "-u", "-m", "models.organisms.painter", *args], stdout=file, stderr=subprocess.STDOUT,
                                env=os.environ | threads)


def _tell(log: Path, name: str, seen: int, say: Callable[[str], None]) -> int:
    """Says the whole new lines of a log; returns how many characters were read."""
    text = log.read_text(encoding="utf-8", errors="replace")[seen:]
    whole = text[: text.rfind("\n") + 1]
    for line in whole.splitlines():
        say(f"[{name}] {line}")
    return seen + len(whole)
