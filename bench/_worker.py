"""One engine in one process: it loads a folder, warms up, then makes the map once for every line that it reads, and says what that cost.

The answers are lines of JSON. Nothing here but torch and safetensors, so that it also runs in the environment of a peer.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

SAMPLES = 10
CLOSE = 1e-4  # how far the logits of an engine's network may lie from those of the saved one


@dataclass(frozen=True)
class Case:
    """What every engine is asked. Corrupted runs add `noise()` to the token embeddings of `subject` (first, one past the last)."""

    folder: Path
    prompt: str
    name: str  # the words of the subject
    answer: str
    ids: list[int]
    subject: tuple[int, int]
    answer_id: int
    width: int
    layers: int
    noise: float  # in standard deviations of the subject's embeddings
    std: float  # what that comes to

    @property
    def model(self) -> Path:
        return self.folder / "model"

    def tokens(self, rows: int) -> Tensor:
        return torch.tensor([self.ids] * rows)

    def corruption(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """(samples, subject tokens, width), the same in every engine."""
        begin, end = self.subject
        return self.std * torch.randn(SAMPLES, end - begin, self.width, generator=torch.Generator().manual_seed(0)).to(dtype)

    def probability(self, logits: Tensor) -> float:
        """Mean over the rows of the answer's probability after the last token; `logits` (rows, tokens, vocabulary)."""
        return logits[:, -1].softmax(-1)[:, self.answer_id].mean().item()


def read_case(folder: Path) -> Case:
    about = json.loads((folder / "case.json").read_text())
    return Case(folder=folder, **about | {"subject": tuple(about["subject"])})


@dataclass(frozen=True)
class Engine:
    """`run()` makes the map (tokens, layers) of indirect effects; `warm_up()` does a little of all that it does; `logits` are of the clean prompt."""

    run: Callable[[], list[list[float]]]
    warm_up: Callable[[], Any]
    logits: Tensor


def serve(build: Callable[[Case, str], Engine]) -> None:
    """Answers on what was the standard output; anything that a library prints goes to the standard error."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)

    def say(**values: Any) -> None:
        out.write(json.dumps(values) + "\n")

    try:
        torch.set_num_threads(1)
        case = read_case(Path(sys.argv[1]))
        engine = build(case, sys.argv[2])
        distance = (engine.logits.float() - load_file(case.folder / "logits.safetensors")["logits"]).abs().max().item()
        if not distance < CLOSE:
            raise ValueError(f"its network is another one: its logits differ by {distance:.1e}")
        engine.warm_up()
        say(ready=distance)
        for _ in sys.stdin:
            start = time.process_time()
            effects = engine.run()
            say(seconds=time.process_time() - start, map=effects, peak=peak())
    except Exception as error:  # the reason stands in the report in the place of figures
        say(error=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
        raise


def peak() -> int:
    """Bytes of the process's largest resident set so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
