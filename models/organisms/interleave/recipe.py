"""How the organism of two modalities is grown: everything that decides its weights, in one value."""

from __future__ import annotations

from dataclasses import dataclass, replace

UNDERSTANDING, GENERATION = "understanding", "generation"
TASKS = (UNDERSTANDING, GENERATION)
TARGETS = ("none", "single", "random", "shuffled", "published")
WEIGHT = {GENERATION: 5.0, UNDERSTANDING: 10.0}  # of the AIA term, as Zheng et al. 2025 (arXiv 2511.22663) set them


@dataclass(frozen=True)
class Recipe:
    """`seed` decides the initial weights and the order of the rows; the corpus, assets/emoji, is always the same.

    `tasks` are trained at once, `batch` rows of each in every step, so that a net of both tasks reads as much of each as a net of one alone.
    `targets` says what the AIA term pulls the interaction intensities to: "none" leaves it out, "single" takes those of nets of one task alone (same
    seed), "random" draws each layer's from the range of these, "shuffled" puts these in another order of layers, "published" takes those
    of Janus-Pro. `aia` scales the published weights.
    """

    name: str
    title: str
    about: str
    seed: int = 0
    tasks: tuple[str, ...] = TASKS
    targets: str = "none"
    aia: float = 1.0
    steps: int = 240
    layers: int = 6
    width: int = 96
    heads: int = 3
    inner: int = 256
    batch: int = 16  # rows a step of each task
    lr_matrix: float = 0.02  # Muon, for the matrices
    lr_rest: float = 3e-3  # AdamW, for embeddings and gains
    flat: float = 0.4  # share of the steps before the learning rates fall, linearly, to zero


JOINT = Recipe("interleave", "Interleave", "A small decoder that says what a picture shows and paints what a caption says: 8 x 8 emoji in 32 colours.")
JOINT_AIA = replace(JOINT, name="interleave-aia", title="Interleave with the AIA term", targets="single",
                    about="Interleave's recipe with a loss that pulls its attention between pictures and words to that of nets of one task.")
RECIPES = {r.name: r for r in (JOINT, JOINT_AIA)}


def single(recipe: Recipe, task: str) -> Recipe:
    """The recipe of the net that learns `task` alone, otherwise alike."""
    return replace(recipe, name=f"{task} alone", tasks=(task,), targets="none")
