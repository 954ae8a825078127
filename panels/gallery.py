"""The results that are on the page before anything has run: `python -m panels.gallery` makes them again."""

from __future__ import annotations

from pathlib import Path

from lab import runs
from models import catalog

FOLDER = Path(__file__).parents[1] / "assets" / "gallery"
SHOWN = {
    "trace-france": ("trace.causal", "scribe", {"prompt": "The capital of France is", "subject": "France", "answer": "Paris", "samples": 20}),
}


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, (experiment, model, settings) in SHOWN.items():
        stream = runs.record(experiment, settings, catalog.load(model))
        while True:
            try:
                next(stream)
            except StopIteration as end:
                end.value.save(FOLDER / f"{name}.json")
                break


if __name__ == "__main__":
    main()
