"""The terms that each gradient method minimises, made of the formulas."""

from __future__ import annotations

from collections.abc import Generator

import torch
from torch import Tensor, nn

from lab.data import Data
from lab.events import Event, Progress
from lab.ruler import _oracles
from lab.ruler._answers import coded
from lab.unlearn._formulas import divergence, dpo, logits, mean, nll, npo, simnpo, together
from lab.unlearn._method import Method, Terms
from lab.unlearn._sets import Batch, Sets, batch
from models.errors import BadInput
from models.model import Model


class Ascent(Method):
    def terms(self, net: nn.Module, forget: Batch, retain: Batch | None) -> Terms:
        return Terms(-mean(nll(logits(net, forget), forget), forget))


class Retaining(Method):
    """A term on the forget batch, and `weight` times another on the retain batch: its cross-entropy, unless a method says otherwise.

    Both terms are given what the net says of their batch: logits (tokens, vocabulary) at the answers.
    """

    forwards, backwards, retains = 2, 2, True

    def __init__(self, weight: float) -> None:
        self.weight = weight

    def terms(self, net: nn.Module, forget: Batch, retain: Batch | None) -> Terms:
        assert retain is not None
        found, kept = together(net, forget, retain)
        return Terms(self.forgetting(found, forget) + self.weight * self.keeping(kept, retain))

    def forgetting(self, found: Tensor, forget: Batch) -> Tensor:
        raise NotImplementedError

    def keeping(self, kept: Tensor, retain: Batch) -> Tensor:
        return mean(nll(kept, retain), retain)


class Difference(Retaining):
    def __init__(self, weight: float, forget_weight: float = 1.0) -> None:
        super().__init__(weight)
        self.forget_weight = forget_weight

    def forgetting(self, found: Tensor, forget: Batch) -> Tensor:
        return -self.forget_weight * mean(nll(found, forget), forget)


class Referred(Retaining):
    """A method that compares with the model as the run found it, which stays as it is."""

    forwards = 3
    reference: nn.Module

    def prepare(self, model: Model, data: Data, sets: Sets) -> Generator[Event, None, None]:
        self.reference = model.net
        yield from ()

    @torch.no_grad()
    def before(self, *texts: Batch) -> list[Tensor]:
        """Logits of the model as it was."""
        return together(self.reference, *texts)


class Divergence(Referred):
    def forgetting(self, found: Tensor, forget: Batch) -> Tensor:
        return -mean(nll(found, forget), forget)

    def keeping(self, kept: Tensor, retain: Batch) -> Tensor:
        return divergence(self.before(retain)[0], kept)


class NegativePreference(Referred):
    def __init__(self, weight: float, beta: float) -> None:
        super().__init__(weight)
        self.beta = beta

    def forgetting(self, found: Tensor, forget: Batch) -> Tensor:
        return npo(nll(found, forget).sum(1), nll(self.before(forget)[0], forget).sum(1), self.beta)


class SimplePreference(Retaining):
    def __init__(self, weight: float, beta: float, delta: float, forget_weight: float) -> None:
        super().__init__(weight)
        self.beta, self.delta, self.forget_weight = beta, delta, forget_weight

    def forgetting(self, found: Tensor, forget: Batch) -> Tensor:
        return self.forget_weight * simnpo(nll(found, forget).sum(1), forget.lengths, self.beta, self.delta)


class Preference(Referred):
    """`alternative` is what is to be said instead: a text, or "" for a wrong answer of the same kind, where an item has some."""

    forwards, backwards = 5, 3

    def __init__(self, weight: float, beta: float, alternative: str) -> None:
        super().__init__(weight)
        self.beta, self.alternative, self.turn = beta, alternative.strip(), 0

    def prepare(self, model: Model, data: Data, sets: Sets) -> Generator[Event, None, None]:
        self.model = model
        if not self.alternative and not all(i.wrong for i in sets.forget.items):
            raise BadInput("some of these items have no wrong answers to be said instead", "only facts of an organism come with some",
                           "Give an alternative answer", setting="alternative")
        yield from super().prepare(model, data, sets)

    def terms(self, net: nn.Module, forget: Batch, retain: Batch | None) -> Terms:
        assert retain is not None
        pair = (self.others(forget), forget)
        *found, kept = together(net, *pair, retain)
        wanted, gone = (nll(f, b).sum(1) for f, b in zip(found, pair, strict=True))
        wanted_before, gone_before = (nll(f, b).sum(1) for f, b in zip(self.before(*pair), pair, strict=True))
        return Terms(dpo(wanted, wanted_before, gone, gone_before, self.beta) + self.weight * self.keeping(kept, retain))

    def others(self, forget: Batch) -> Batch:
        """The same prompts, each with its alternative answer."""
        self.turn += 1
        texts = [(prompt, self.alternative or item.wrong[self.turn % len(item.wrong)], item) for prompt, _, item in forget.texts]
        rows = [row for prompt, answer, _ in texts if (row := coded(self.model, prompt, answer))]
        if len(rows) < len(texts):
            raise BadInput(f"{self.alternative or 'a wrong answer'!r} adds no token to some of these prompts", "the tokenizer has no token for it",
                           "Give an alternative in words that the model knows", setting="alternative")
        return batch(rows, texts, forget.ids.device)


class Matching(Retaining):
    """Mean over the oracles of KL(oracle || model): what forgetting would be if the oracles were at hand."""

    forwards = 4

    def prepare(self, model: Model, data: Data, sets: Sets) -> Generator[Event, None, None]:
        yield Progress(0, 0, "reading the oracles")
        names, why = _oracles.fitting(data, sets.forget.items)
        if not names:
            raise BadInput("there is no oracle to match", why, "Choose another method, or a forget set such as forget_10 author", setting="forget")
        self.oracles = [oracle.net for oracle in _oracles.load(model, names)]
        self.forwards = 2 + 2 * len(self.oracles)

    def terms(self, net: nn.Module, forget: Batch, retain: Batch | None) -> Terms:
        assert retain is not None
        sets = (forget, retain)
        with torch.no_grad():
            theirs = [together(oracle, *sets) for oracle in self.oracles]
        gone, kept = (torch.stack([divergence(t[i], found) for t in theirs]).mean() for i, found in enumerate(together(net, *sets)))
        return Terms(gone + self.weight * kept)
