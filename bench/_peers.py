"""Other libraries, each in an environment of its own, and the processes that engines run in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
CACHE = Path("~/.cache/mnemoscope/peers").expanduser()
TORCH = "torch==2.13.0"  # first and alone, as in the Makefile: nothing else chooses its build
# what the newest of their own dependencies would break is pinned too
PEERS = {
    "transformer_lens": ("transformer-lens==2.16.1", "transformers==4.53.3", "numpy==1.26.4", "pandas==2.2.3", "datasets==3.6.0", "pyarrow==20.0.0"),
    "transformer_lens_4": ("transformer-lens==4.3.0", "transformers==5.23.0", "numpy==2.4.6"),
    "nnsight": ("nnsight==0.8.1", "transformers==5.23.0", "numpy==2.4.6", "safetensors==0.8.0"),
}
CALM = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "WANDB_MODE": "disabled", "TQDM_DISABLE": "1"}


class Unavailable(Exception):
    """The engine cannot be installed or run here; says why."""


def python(peer: str, cache: Path = CACHE) -> str:
    """The interpreter of a peer's environment, made the first time; of this environment where there is no such peer."""
    if peer not in PEERS:
        return sys.executable
    folder, pins = cache / peer, "\n".join((TORCH, *PEERS[peer]))
    stamp, program = folder / "installed.txt", folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not stamp.is_file() or stamp.read_text() != pins:
        try:
            venv.create(folder, with_pip=True, clear=True)
        except (subprocess.SubprocessError, OSError) as error:
            raise Unavailable(f"no environment can be made for it: {error}") from error
        for packages in ((TORCH,), (TORCH, *PEERS[peer])):
            install(str(program), packages)
        stamp.write_text(pins)
    return str(program)


def install(program: str, packages: tuple[str, ...]) -> None:
    done = subprocess.run([program, "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages], capture_output=True, text=True)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [f"pip ended with {done.returncode}"]
        raise Unavailable(f"it cannot be installed: {errors[-1][:300]}")


class Worker:
    """An engine in a process of its own, warm after `__init__`; raises `Unavailable` with the reason where it does not run."""

    def __init__(self, program: str, module: str, folder: Path, kind: str) -> None:
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed with the process
        self.process = subprocess.Popen([program, "-m", f"bench.{module}", str(folder), kind], cwd=ROOT, env={**os.environ, **CALM}, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, bufsize=1)
        self.distance = float(self._answer()["ready"])

    def run(self) -> dict[str, Any]:
        """CPU seconds of one map, the map, and the process's peak memory so far."""
        assert self.process.stdin
        self.process.stdin.write("run\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        answer = json.loads(line) if line else {"error": f"its process ended with {self.process.wait()}: {self._last_error()}"}
        if "error" in answer:
            raise Unavailable(answer["error"])
        return answer

    def _last_error(self) -> str:
        self.errors.seek(0)
        lines = [line.strip() for line in self.errors if line.strip()]
        return lines[-1][:300] if lines else "it did not say why"

    def close(self) -> None:
        self.process.communicate()
        self.errors.close()


def answer(module: str, *arguments: str) -> dict[str, Any]:
    """What a module of bench prints, run once in a fresh process of this environment."""
    done = subprocess.run([sys.executable, "-m", f"bench.{module}", *arguments], cwd=ROOT, env={**os.environ, **CALM}, capture_output=True, text=True)
    if done.returncode:
        raise Unavailable((done.stderr.strip().splitlines() or [f"bench.{module} ended with {done.returncode}"])[-1][:300])
    return json.loads(done.stdout)
