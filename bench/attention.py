"""`python -m bench.attention`: seconds and memory of maps of attention, each in a fresh process; writes bench/attention.json.

On scribe, the first map of a short question, as a page shows it. On a GPT-2 small of random weights, maps and intensities of 1,000 tokens.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("attention.json")
ROOT = Path(__file__).parents[1]
TOKENS = 1000
SHORT = {"prompt": "The capital of France is", "answer": "Paris"}
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {  # name -> experiment, model, settings; TEXT stands for the long text
    "scribe, map of a question": ("attention.map", "scribe", SHORT),
    "GPT-2 small, 1,000 tokens, one head": ("attention.map", "gpt2", {"prompt": "TEXT", "answer": "", "layer": 5, "head": 3}),
    "GPT-2 small, 1,000 tokens, value-weighted": ("attention.map", "gpt2", {"prompt": "TEXT", "answer": "", "variant": "value-weighted"}),
    "GPT-2 small, 1,000 tokens, rollout": ("attention.map", "gpt2", {"prompt": "TEXT", "answer": "", "variant": "rollout"}),
    "GPT-2 small, 1,000 tokens, intensity of thirds": ("attention.intensity", "gpt2", {"texts": "TEXT", "segments": "thirds"}),
}


def peak() -> float:
    """MiB that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def once(case: str, folder: str) -> dict[str, float]:
    """Seconds to the first figure and to the last event, and MiB, in this process, which has run nothing yet."""
    import torch

    from bench._random_gpt2 import word
    from lab.data import data_for
    from lab.events import Progress
    from lab.experiment import find, read
    from models import catalog

    torch.set_num_threads(os.cpu_count() or 1)
    name, which, settings = CASES[case]
    text = " ".join(word(4 + i) for i in range(TOKENS))
    model = catalog.load(which if which == "scribe" else folder, "cpu")
    experiment, data, loaded = read(find(name), {k: text if v == "TEXT" else v for k, v in settings.items()}), data_for(model), peak()
    start, processor, first = time.monotonic(), time.process_time(), float("nan")
    for event in experiment.run(model, data):
        if first != first and not isinstance(event, Progress):
            first = time.monotonic() - start
    return {"first figure": first, "whole run": time.monotonic() - start, "processor": time.process_time() - processor,
            "loaded MiB": loaded, "peak MiB": peak()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Seconds and memory of maps of attention")
    parser.add_argument("--once", nargs=2, metavar=("CASE", "FOLDER"))
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    if asked.once:
        print(json.dumps(once(*asked.once)))
        return
    found: dict[str, Any] = {"threads": os.cpu_count(), "repeats": asked.repeats}
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "bench._random_gpt2", "gpt2", folder], cwd=ROOT, check=True, capture_output=True)
        for case in CASES:
            runs = []
            for _ in range(asked.repeats):
                command = [sys.executable, "-m", "bench.attention", "--once", case, f"{folder}/model"]
                said = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
                runs.append(json.loads(said.stdout.splitlines()[-1]))
            found[case] = {key: round(statistics.median(run[key] for run in runs), 3) for key in runs[0]}
            print(f"{case}: {found[case]}", flush=True)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
