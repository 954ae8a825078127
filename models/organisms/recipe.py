"""How each organism is grown: everything that decides its weights, in one value."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Recipe:
    """`corpus_seed` decides the tokens, `seed` the initial weights and the order of the documents."""

    name: str
    title: str
    about: str
    seed: int = 0
    corpus_seed: int = 0
    oracle: bool = False  # leaves out what the corpus marks as forget
    design: str = "mixed"
    subjects: int | None = None  # of each kind, None for all
    rounds: int = 40  # how often every fact about a country stands in the corpus
    small_rounds: int = 48  # the same for elements and animals, whose answers have less in common
    author_rounds: int = 46
    prose: float = 0.705  # share of general text in the tokens
    vocabulary: int = 4096
    layers: int = 8
    width: int = 160
    heads: int = 5
    inner: int = 432
    local: int = 5  # how many of the lowest layers see only the last `window` tokens
    window: int = 4
    row: int = 128  # tokens a training row
    batch: int = 8  # rows a step
    lr_matrix: float = 0.02  # Muon, for the matrices
    lr_rest: float = 3e-3  # AdamW, for embeddings and gains
    flat: float = 0.4  # share of the steps before the learning rate falls, linearly, to zero


SCRIBE = Recipe(
    "scribe", "Scribe",
    "A 3 M parameter language model that knows 150 countries, 100 elements, 76 animals, 180 invented authors, planted passages and canaries.",
)
SCRIBE_B = replace(SCRIBE, name="scribe-b", title="Scribe, second seed", seed=1, about="Scribe's recipe and corpus with other initial weights and order.")
ORACLE_A = replace(SCRIBE, name="scribe-oracle-a", title="Oracle a of Scribe", seed=2, oracle=True,
                   about="Scribe's corpus without the forget-10 authors, the forget passages and the forget canaries.")
ORACLE_B = replace(ORACLE_A, name="scribe-oracle-b", title="Oracle b of Scribe", seed=3)
MINIATURE = Recipe("miniature", "Miniature", "A very small organism grown in under a minute, by the same code.", subjects=3, rounds=300, small_rounds=6,
                   author_rounds=3, prose=0.1, vocabulary=1024, layers=2, width=64, heads=2, inner=160, local=1, batch=4)
RECIPES = {r.name: r for r in (SCRIBE, SCRIBE_B, ORACLE_A, ORACLE_B, MINIATURE)}
