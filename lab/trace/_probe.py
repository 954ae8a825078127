"""How probes are run: subjects and their classes, the states that are read, and the regressions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lab.data import Data
from lab.events import Curves, Event, Progress
from lab.trace._prompt import check_length, encode
from models.errors import BadInput
from models.model import Model, blocks
from models.organisms import facts, tables

if TYPE_CHECKING:
    from lab.trace.probes import Probes

BATCH = 64
SMALLEST = 5  # subjects of a class
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)  # 1 / L2 penalty, of which the one with the least loss on folds within the trained subjects is taken
LINES = ("accuracy", "control", "selectivity", "majority class")


@dataclass(frozen=True)
class Question:
    """Subjects with the class of each, and the text around them."""

    subjects: tuple[str, ...]
    classes: tuple[str, ...]
    template: str  # with {s}
    left_out: int  # subjects whose class has too few


def probes(settings: Probes, model: Model, data: Data) -> Iterator[Event]:
    """Yields the curves after every layer, from the embeddings on; points to come are NaN."""
    yield Progress(0, 0, "reading the facts")
    question = ask(settings, data)
    found = yield from states(model, question, settings.token)
    labels = np.unique(question.classes, return_inverse=True)[1]
    sizes = Counter(question.classes).most_common()
    points = np.arange(-1.0, len(found) - 1)
    majority = sizes[0][1] / len(labels)
    nothing = np.full((len(LINES), len(points)), np.nan)
    now = Curves(f"Probes for {settings.property} at the {settings.token}", LINES, points, "layer (-1: what enters the first block)", nothing, nothing,
                 "share of held-out subjects", settings.direction, facts=describe(question, sizes))
    by_heart = np.zeros(len(found))
    for point in range(len(found)):
        yield Progress(point, len(found), f"layer {point - 1}")
        value, error = now.value.copy(), now.error.copy()
        real = scores(found[point], labels, settings.folds, settings.seed)
        dealt = [control(found[point], labels, settings, draw, real.strengths) for draw in range(settings.controls)]
        by_heart[point] = np.mean([d.trained for d in dealt])
        chance = np.concatenate([d.held_out for d in dealt])
        errors = standard_error(real.held_out), standard_error(chance)
        value[:, point] = real.held_out.mean(), chance.mean(), real.held_out.mean() - chance.mean(), majority
        error[:3, point] = *errors, np.hypot(*errors)
        now = replace(now, value=value, error=error)
        if point < len(found) - 1:
            yield now
    best = int(now.value[0].argmax())
    yield replace(now, facts=(*now.facts, f"Best at layer {best - 1}: {now.value[0, best]:.3f} ± {now.error[0, best]:.3f}, control {now.value[1, best]:.3f}; "
                              f"the control gets {by_heart[best]:.2f} of the subjects right that it was trained on: so much the probe learns by heart"))


def control(x: np.ndarray, labels: np.ndarray, settings: Probes, draw: int, strengths: Sequence[float]) -> Scores:
    """The same probe on labels that are dealt out to the subjects at random."""
    shuffled = np.random.default_rng((settings.seed, draw)).permutation(labels)
    return scores(x, shuffled, settings.folds, settings.seed, strengths)


def ask(settings: Probes, data: Data) -> Question:
    """Raises `BadInput` where the property is not known of enough subjects, or the prompt has no place for one."""
    known = taught(data, settings.property) if data.manifest else world(settings.property)
    drawn = np.random.default_rng(settings.seed).permutation(len(known))[: settings.subjects]
    known = [known[i] for i in sorted(drawn)]
    sizes, least = Counter(answer for _, answer in known), max(SMALLEST, settings.folds)
    kept = [(s, a) for s, a in known if sizes[a] >= least]
    if len({a for _, a in kept}) < 2:
        raise BadInput(f"too few subjects are known by their {settings.property}", f"two classes of {least} subjects or more are needed",
                       "Take more subjects or fewer folds, another property, or a bundled organism", setting="property")
    phrasings = data.manifest["phrasings"][settings.property] if data.manifest else tables.phrasings(settings.property)
    template = settings.prompt.rstrip() or phrasings[0].removesuffix(" {a}.")
    if template.count("{s}") != 1:
        raise BadInput(f"the prompt {template!r} has no place for the subject", "{s} stands for it, once", 'Write, for example, "The capital of {s} is"',
                       setting="prompt")
    return Question(tuple(s for s, _ in kept), tuple(a for _, a in kept), template, len(known) - len(kept))


def taught(data: Data, relation: str) -> list[tuple[str, str]]:
    """(subject, answer) of all facts of `relation` that stood in the organism's training set."""
    manifest: Any = data.manifest
    return [(f["subject"], f["answer"]) for f in manifest.get("facts", ()) if f["relation"] == relation and sum(f["copies"])]


def world(relation: str) -> list[tuple[str, str]]:
    """The same from the bundled tables of the real world; authors are invented, so no other model can know them."""
    return [(s.name, s.answers[relation]) for s in facts.world(0) if relation in s.answers]


def states(model: Model, question: Question, token: str) -> Generator[Event, None, Float[np.ndarray, "points subjects width"]]:
    """The hidden state of each subject's prompt at one token: what enters the first block, then what each block returns."""
    rows, places = [], []
    for subject in question.subjects:
        ids, place = read(model, question.template, subject, token)
        rows.append(ids)
        places.append(place)
    tap = Tap(model.skeleton())
    found: dict[int, np.ndarray] = {}
    for index in alike(rows):
        yield Progress(len(found), len(rows), "reading states")
        found |= dict(zip(index, tap.read(torch.tensor([rows[i] for i in index], device=model.device), [places[i] for i in index]), strict=True))
    return np.stack([found[i] for i in range(len(rows))], 1)


def read(model: Model, template: str, subject: str, token: str) -> tuple[tuple[int, ...], int]:
    """Token ids of the prompt about `subject`, and which of them is read."""
    begin, text = template.index("{s}"), template.replace("{s}", subject)
    ids, spans = encode(model.tokenizer, text)
    check_length(model, len(ids))
    if token == "last token":
        return ids, len(ids) - 1
    inside = [i for i, (a, b) in enumerate(spans) if a < begin + len(subject) and b > begin]
    if not inside:
        raise BadInput(f"no token of the prompt holds {subject!r}", "the tokenizer drops these letters", "Read the last token", setting="token")
    return ids, inside[-1]


def alike(rows: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Indices of rows of one length, `BATCH` at most: so nothing has to be padded or masked, which not every net can."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    for _, same in groupby(order, key=lambda i: len(rows[i])):
        index = list(same)
        yield from (index[i : i + BATCH] for i in range(0, len(index), BATCH))


class Tap:
    """A private net that keeps what its blocks pass on."""

    def __init__(self, net: nn.Module) -> None:
        self.net, self.kept = net, list[Tensor]()
        blocks(net)[0].register_forward_pre_hook(self._before, with_kwargs=True)
        for block in blocks(net):
            block.register_forward_hook(lambda _, args, output: self.kept.append(output[0] if isinstance(output, tuple) else output))

    def _before(self, _: nn.Module, args: tuple, kwargs: dict) -> None:
        self.kept = [args[0] if args else kwargs["hidden_states"]]

    @torch.no_grad()
    def read(self, ids: Int[Tensor, "rows tokens"], places: list[int]) -> Float[np.ndarray, "rows points width"]:
        """The state of row i at token `places[i]`, at every point."""
        self.net(input_ids=ids, use_cache=False)
        return torch.stack([s[range(len(ids)), places].float().cpu() for s in self.kept], 1).numpy()


@dataclass(frozen=True)
class Scores:
    """One number a fold: right shares of the held-out subjects and of the trained ones, and how strong the probe was."""

    held_out: Float[np.ndarray, " folds"]
    trained: Float[np.ndarray, " folds"]
    strengths: tuple[float, ...]


def scores(x: Float[np.ndarray, "subjects width"], labels: Int[np.ndarray, " subjects"], folds: int, seed: int,
           strengths: Sequence[float] = ()) -> Scores:
    """A probe a fold, of the given strengths or of the best for the trained subjects. A row of `x` is a subject, so folds share none."""
    from sklearn.model_selection import StratifiedKFold

    held_out, trained, taken = [], [], []
    for i, (train, test) in enumerate(StratifiedKFold(folds, shuffle=True, random_state=seed).split(x, labels)):
        seen, unseen = rotate(*standardize(x[train], x[test]))
        taken.append(strengths[i] if strengths else strength(seen, labels[train], min(3, folds), seed))
        probe = fit(seen, labels[train], taken[-1])
        held_out.append(probe.score(unseen, labels[test]))
        trained.append(probe.score(seen, labels[train]))
    return Scores(np.array(held_out), np.array(trained), tuple(taken))


def strength(x: np.ndarray, labels: np.ndarray, folds: int, seed: int) -> float:
    """Of `STRENGTHS`, the one with the least mean negative log-likelihood on held-out parts of these subjects."""
    from sklearn.model_selection import StratifiedKFold

    loss = np.zeros(len(STRENGTHS))
    for train, test in StratifiedKFold(folds, shuffle=True, random_state=seed).split(x, labels):
        for i, c in enumerate(STRENGTHS):
            probe = fit(x[train], labels[train], c)
            loss[i] -= probe.predict_log_proba(x[test])[range(len(test)), np.searchsorted(probe.classes_, labels[test])].sum()
    return STRENGTHS[int(loss.argmin())]


def fit(x: np.ndarray, labels: np.ndarray, c: float) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=c, max_iter=2000).fit(x, labels)


def standardize(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both by mean and standard deviation of the trained subjects; a channel that is the same for all of them stays at zero for them."""
    mean, spread = train.mean(0, dtype=float), train.std(0, dtype=float)
    spread[spread < 1e-6 * max(1.0, float(spread.max()))] = 1.0
    return (train - mean) / spread, (test - mean) / spread


def rotate(train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both in as many channels as there are trained subjects, if these are fewer.

    The L2 penalty keeps W in the span of the trained states, so the probe is the same, and a wide net's takes no longer than a narrow one's.
    """
    if train.shape[1] <= len(train):
        return train, test
    basis, _ = np.linalg.qr(train.T)
    return train @ basis, test @ basis


def standard_error(values: np.ndarray) -> float:
    """Of the mean of `values`: standard deviation over the square root of their number."""
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def describe(question: Question, sizes: list[tuple[str, int]]) -> tuple[str, ...]:
    few = f"; {question.left_out} subjects of smaller classes are left out" if question.left_out else ""
    return (f"{len(question.subjects)} subjects in {len(sizes)} classes: {', '.join(f'{name} {count}' for name, count in sizes)}{few}",
            f"Prompt: {question.template}")
