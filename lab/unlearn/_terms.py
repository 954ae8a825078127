"""The terms that each gradient method minimises, made of the formulas."""

from __future__ import annotations

from collections.abc import Generator

import torch
from torch import Tensor, nn

from lab.data import Data
from lab.events import Event, Progress
from lab.ruler import _oracles
from lab.ruler._answers import coded
from lab.unlearn._formulas import divergence, dpo, logits, mean, nll, npo, simnpo
from lab.unlearn._method import Method, Terms
from lab.unlearn._sets import Batch, Sets, batch
from models.errors import BadInput
from models.model import Model


class Ascent(Method):
    def terms(self, net: nn.Module, forget: Batch, retain: Batch | None) -> Terms:
        return Terms(-mean(nll(logits(net, forget), forget), forget))


class Retaining(Method):
    """A term on the forget batch, and `weight` times another on the retain batch: its cross-entropy, unless a method says otherwise."""

    forwards, backwards, retains = 2, 2, True

    def __init__(self, weight: float) -> None:
        self.weight = weight

    def terms(self, net: nn.Module, forget: Batch, retain: Batch | None) -> Terms:
        assert retain is not None
        return Terms(self.forgetting(net, forget) + self.weight * self.keeping(net, retain))

    def forgetting(self, net: nn.Module, forget: Batch) -> Tensor:
        raise NotImplementedError

    def keeping(self, net: nn.Module, retain: Batch) -> Tensor:
        return mean(nll(logits(net, retain), retain), retain)


class Difference(Retaining):
    def __init__(self, weight: float, forget_weight: float = 1.0) -> None:
        super().__init__(weight)
        self.forget_weight = forget_weight

    def forgetting(self, net: nn.Module, forget: Batch) -> Tensor:
        return -self.forget_weight * mean(nll(logits(net, forget), forget), forget)


class Referred(Retaining):
    """A method that compares with the model as the run found it, which stays as it is."""

    forwards = 3
    reference: nn.Module

    def prepare(self, model: Model, data: Data, sets: Sets) -> Generator[Event, None, None]:
        self.reference = model.net
        yield from ()

    @torch.no_grad()
    def before(self, texts: Batch) -> Tensor:
        """Logits of the model as it was."""
        return logits(self.reference, texts)


class Divergence(Referred):
    def forgetting(self, net: nn.Module, forget: Batch) -> Tensor:
        return -mean(nll(logits(net, forget), forget), forget)

    def keeping(self, net: nn.Module, retain: Batch) -> Tensor:
        return divergence(self.before(retain), logits(net, retain), retain)


class NegativePreference(Referred):
    def __init__(self, weight: float, beta: float) -> None:
        super().__init__(weight)
        self.beta = beta

    def forgetting(self, net: nn.Module, forget: Batch) -> Tensor:
        return npo(nll(logits(net, forget), forget).sum(1), nll(self.before(forget), forget).sum(1), self.beta)


class SimplePreference(Retaining):
    def __init__(self, weight: float, beta: float, delta: float, forget_weight: float) -> None:
        super().__init__(weight)
        self.beta, self.delta, self.forget_weight = beta, delta, forget_weight

    def forgetting(self, net: nn.Module, forget: Batch) -> Tensor:
        return self.forget_weight * simnpo(nll(logits(net, forget), forget).sum(1), forget.lengths, self.beta, self.delta)


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

    def forgetting(self, net: nn.Module, forget: Batch) -> Tensor:
        other = self.others(forget)
        wanted, gone = nll(logits(net, other), other).sum(1), nll(logits(net, forget), forget).sum(1)
        return dpo(wanted, nll(self.before(other), other).sum(1), gone, nll(self.before(forget), forget).sum(1), self.beta)

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

    def forgetting(self, net: nn.Module, forget: Batch) -> Tensor:
        return self.distance(net, forget)

    def keeping(self, net: nn.Module, retain: Batch) -> Tensor:
        return self.distance(net, retain)

    def distance(self, net: nn.Module, texts: Batch) -> Tensor:
        found = logits(net, texts)
        with torch.no_grad():
            wanted = [logits(oracle, texts) for oracle in self.oracles]
        return torch.stack([divergence(w, found, texts) for w in wanted]).mean()
