"""The results that are on the page before anything has run: `python -m panels.gallery` makes them again."""

from __future__ import annotations

from pathlib import Path

from lab import runs
from models import catalog

FOLDER = Path(__file__).parents[1] / "assets" / "gallery"
SHOWN = {
    "trace-france": ("trace.causal", "scribe",
                     {"prompt": "The capital of France is", "subject": "France", "answer": "Paris", "samples": 20}),
}


def make(name: str, folder: Path = FOLDER) -> Path:
    """Runs the example `name` to its end and saves it."""
    experiment, model, settings = SHOWN[name]
    stream = runs.record(experiment, settings, catalog.load(model))
    while True:
        try:
            next(stream)
        except StopIteration as end:
            folder.mkdir(parents=True, exist_ok=True)
            end.value.save(folder / f"{name}.json")
            return folder / f"{name}.json"


if __name__ == "__main__":
    for each in SHOWN:
        make(each)
