"""A long conversation and a memory beside the model: what is taken down, kept up to date, found again, and what is made up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.events import Event
from lab.experiment import Experiment, setting

if TYPE_CHECKING:
    from lab.data import Data
    from models.model import Model

KEEPING = ("everything", "age-weighted", "latest", "compact only")


@dataclass(frozen=True, kw_only=True)
class LongConversation(Experiment):
    """Two memories listen to the same conversation, made by rules, of which every truth is known: statements, changes, chit-chat, things that are only
    supposed, and questions, also for what was never said. A memory takes points down from what it hears, by a reader that knows the words of this world; it
    holds them in a compact memory of a few points, made anew every 100 turns from those that were used and heard most and latest, and in a vector index. A
    new point replaces one about the same thing where the search finds it. A question is answered from the points that the search finds, the latest first,
    or not at all. Age-weighted: beyond its capacity the index drops the point with the least (1 + uses) / 2^(age / half-life). No language model is asked;
    the choice of model does not matter.

    Scores, operation by operation. Extraction: recall, the share of what was said that was taken down right, and weighted by importance; accuracy, the mean of
    2 / 2 for a right point, 1 / 2 for a right thing with a wrong value and 0 for one that nobody said; resistance, the share of suppositions that were not
    taken for true. Update: whether after a change the new value alone is held (correct), both (conflict), another (hallucination) or not the new one
    (omission). Answers: correct, hallucinated (of these, stale: true once), omitted. Faults can be built in: points dropped at extraction, made up there, or
    changes not carried out.
    """

    title = "Long conversations with a memory beside"
    paper = "memory: HEMA, arXiv 2504.16754; scores: HaluMem, arXiv 2511.03506; both built here without a language model"
    direction = "correct, recall, accuracy and resistance: higher is better; conflict, hallucination and omission: lower is better"
    asks = False
    show: str = setting("scores", "The figure: all scores of both memories, right answers as the conversation goes on, or right answers by how old the fact is",
                        choices=("scores", "turns", "age"))
    first: str = setting("everything", "What the first memory keeps", choices=KEEPING)
    second: str = setting("age-weighted", "What the second memory keeps", choices=KEEPING)
    turns: int = setting(1000, "Turns of the conversation", low=20, high=20_000)
    people: int = setting(40, "People who are talked about", low=2, high=79)
    capacity: int = setting(80, "Points that the index of a forgetting memory holds", low=1, high=100_000)
    half_life: int = setting(200, "Age-weighted: turns in which the weight of an unused point halves", low=1, high=100_000)
    compact: int = setting(12, "Points of the compact memory", low=0, high=1000)
    found: int = setting(6, "Points that a search brings back", low=1, high=100)
    recent: float = setting(0.0, "Share of questions that ask for what was said in the last tenth of the conversation so far; the others ask for anything",
                            low=0.0, high=1.0)
    reader: str = setting("careful", "Whether the memory tells a supposition from a statement", choices=("careful", "credulous"))
    encoder: str = setting("hashing", "How texts become vectors: hashed words and pieces of words, or MiniLM (22 M parameters), where its package is installed",
                           choices=("hashing", "minilm"))
    fault: str = setting("none", "A fault built into both memories: points dropped, points made up, or changes not carried out",
                         choices=("none", "drop", "fabricate", "stale"))
    rate: float = setting(0.3, "How often the fault happens", low=0.0, high=1.0)

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.recall._conversation import conversation

        yield from conversation(self)
