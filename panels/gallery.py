"""The results that are on the page before anything has run: `python -m panels.gallery` makes them again; with names, only those."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from lab import runs
from models import catalog

FOLDER = Path(__file__).parents[1] / "assets" / "gallery"
FACT = {"prompt": "The capital of France is", "subject": "France", "answer": "Paris"}
ASKED = {name: FACT[name] for name in ("prompt", "answer")}
ADVERSARIAL = {"count": 1, "rounds": 3, "tune": 30, "batch": 8, "surrogate": "no text", "starts": 1, "beside": 2, "plain": 4, "seeds": 1}
SHOWN: dict[str, tuple[str, str, dict[str, Any]]] = {
    "trace-france": ("trace.causal", "scribe", FACT | {"samples": 20}),
    "trace-heads": ("trace.heads", "scribe", FACT | {"samples": 20}),
    "trace-neurons": ("trace.neurons", "scribe", FACT | {"samples": 20}),
    "trace-attribution": ("trace.attribution", "scribe", FACT),
    "trace-average": ("trace.average", "scribe", {"about": "country", "count": 40}),
    "trace-lens": ("trace.lens", "scribe", ASKED),
    "trace-attributions": ("trace.attributions", "scribe", ASKED),
    "memorization-survey": ("memorization.survey", "scribe", {}),
    "memorization-completion": ("memorization.completion", "scribe", {"item": "passage/0"}),
    "memorization-search": ("memorization.search", "scribe", {}),
    "memorization-curvature": ("memorization.curvature", "scribe", {}),
    "unlearn-grad_diff": ("unlearn.grad_diff", "scribe", {}),
    "unlearn-npo": ("unlearn.npo", "scribe", {}),
    "unlearn-simnpo": ("unlearn.simnpo", "scribe", {}),
    "unlearn-kl": ("unlearn.kl", "scribe", {}),
    "unlearn-idk": ("unlearn.idk", "scribe", {}),
    "unlearn-rmu": ("unlearn.rmu", "scribe", {}),
    "unlearn-grad_ascent": ("unlearn.grad_ascent", "scribe", {"until": "oracle"}),
    "unlearn-sha256": ("unlearn.sha256", "scribe", {}),
    "unlearn-ssd": ("unlearn.ssd", "scribe", {}),
    "unlearn-oracle": ("unlearn.oracle", "scribe", {}),
    "ruler-scores": ("ruler.scores", "scribe", {}),
    "ruler-depth": ("ruler.depth", "scribe", {}),
    "ruler-gaming": ("ruler.gaming", "scribe", {}),
    "attention-map": ("attention.map", "scribe", ASKED | {"segments": "subject, relation, answer"}),
    "attention-intensity": ("attention.intensity", "scribe", {}),
    "attention-heads": ("attention.heads", "scribe", {}),
    "attention-sharing": ("attention.sharing", "scribe", {}),
    "attention-memorized": ("attention.memorized", "scribe", {}),
    "attention-compared": ("attention.compared", "scribe", {"against": "scribe-oracle-a"}),
    "attention-interleave": ("attention.interleave", "scribe", {}),
    "attention-repetition": ("attention.repetition", "scribe", {"steps": 0}),
    "diffusion-generate": ("diffusion.generate", "painter", {"seeds": 3}),
    "diffusion-replay": ("diffusion.replay", "painter", {"guidances": "2, 5", "most": 2}),
    "diffusion-detect": ("diffusion.detect", "painter", {}),
    "diffusion-words": ("diffusion.words", "painter", {}),
    "diffusion-maps": ("diffusion.maps", "painter", {}),
    "diffusion-perturb": ("diffusion.perturb", "painter", {}),
    "diffusion-swap": ("diffusion.swap", "painter-ddt", {}),
    "diffusion-localize": ("diffusion.localize", "painter", {"count": 2, "method": "wanda", "share": 0.1}),
    "diffusion-trigger": ("diffusion.trigger", "painter", {"prompts": "magnet", "prune": "nemo", "until": "pictures"}),
    "diffusion-hard": ("diffusion.hard", "painter", {"length": 24}),
    "diffusion-adversarial": ("diffusion.adversarial", "painter", ADVERSARIAL),
    "diffusion-erase": ("diffusion.erase", "painter", {"count": 1, "plain": 8}),
    "diffusion-memcontrol": ("diffusion.memcontrol", "painter", {"trials": 5, "tune": 40}),
    "recall-fidelity": ("recall.fidelity", "scribe", {}),
    "recall-needle": ("recall.needle", "scribe", {"show": "retrieved", "material": "places"}),
    "recall-associative": ("recall.associative", "scribe", {}),
    "recall-serial": ("recall.serial", "scribe", {}),
    "recall-context": ("recall.context", "scribe", {}),
    "recall-policies": ("recall.policies", "scribe", {"load": 1, "sizes": "16, 32, 64, 128", "widths": "8, 4, 2"}),
    "recall-forgotten": ("recall.forgotten", "scribe", {"against": "scribe-oracle-a"}),
    "recall-conversation": ("recall.conversation", "scribe", {}),
    "recall-watch": ("recall.watch", "scribe", {"memory": "decay", "pairs": 8, "depth": 0.1, "seed": 1}),
    "recall-architectures": ("recall.architectures", "scribe", {"memories": "full, sinks, gated-delta, mamba2, memmamba, titans"}),
    "recall-learn": ("recall.learn", "scribe", {}),
    "recall-retrieval": ("recall.retrieval", "scribe", {}),
    "trace-probes": ("trace.probes", "scribe", {"property": "continent"}),
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
    for each in sys.argv[1:] or SHOWN:
        make(each)
