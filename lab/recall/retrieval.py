"""A retrieval memory beside a language model: kNN-LM, and two networks that imitate its retriever."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.events import Event
from lab.experiment import Experiment, setting

if TYPE_CHECKING:
    from lab.data import Data
    from models.model import Model


@dataclass(frozen=True, kw_only=True)
class Retrieval(Experiment):
    """Teaches the model a new domain without touching its weights: documents about authors that nobody has read, written by the grammar of the organisms.
    A store keeps, for every token of them, the state before it and the token. kNN-LM looks up the nearest states and mixes what followed
    them with what the model says: p = lam p_memory + (1 - lam) p_model. Memory Decoder (a small decoder of its own) and MLP Memory (an MLP on the model's last
    state) are trained to say what the retriever would, a KL(p_kNN || p) + (1 - a) cross-entropy, and then need no store. Each has its control,
    trained as long on the cross-entropy alone; kNN-LM has one whose store is about other authors; and last a copy of the model is fine-tuned on the store's
    documents for as many steps.

    Perplexity is measured on other documents about the same authors, and on general text that has nothing to do with them: weights stay as they were,
    but a fixed lam mixes the memory into every output. Costs are counted, not timed: bytes that are kept beside the model, and multiplications a token.
    """

    title = "Retrieval memories: kNN-LM, Memory Decoder, MLP Memory"
    paper = "Khandelwal et al. 2020, arXiv 1911.00172; Cao et al. 2025, arXiv 2508.09874; Wei et al. 2025, arXiv 2508.01832"
    direction = "perplexity, lower: the text is better predicted; bytes and multiplications, lower: cheaper"
    show: str = setting("table", "The figure", choices=("table", "perplexity while it learns", "perplexity against cost"))
    authors: int = setting(16, "Invented authors that the new documents are about", low=2, high=100)
    rounds: int = setting(4, "How often each of their facts stands in the store", low=1, high=20)
    near: int = setting(32, "Neighbours that are looked up; 1,024 in the paper, of a store of millions", low=1, high=1024)
    temperature: float = setting(0.0, "Of exp(-d / temperature), d the squared distance; 0: the median distance to the nearest entry", low=0.0, high=1e6)
    lam: float = setting(0.55, "Share of the memory in the mixture; 0 is the model alone", low=0.0, high=1.0)
    imitate: float = setting(0.5, "a: share of the retriever's distribution in the loss; the controls have 0", low=0.0, high=1.0)
    steps: int = setting(120, "Steps of training of each network, of 8 documents; 0 trains none", low=0, high=2000)

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.recall._retrieval_run import retrieval

        yield from retrieval(self, model)
