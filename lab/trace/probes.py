"""Linear probes: in which layer a property of a subject can be read off, against labels that mean nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.events import Event
from lab.experiment import Experiment, setting

if TYPE_CHECKING:
    from lab.data import Data
    from models.model import Model

PROPERTIES = ("continent", "language", "currency", "class", "genre", "instrument", "pet", "profession", "drink", "birthplace")
TOKENS = ("last token", "last subject token")


@dataclass(frozen=True, kw_only=True)
class Probes(Experiment):
    """For every layer a multinomial logistic regression p(class | h) = softmax(W h + b) from the hidden state h of one token of a prompt.

    The subjects are cut into folds: no subject is both trained and tested on, and the L2 penalty on W is chosen by folds within the trained ones.
    accuracy: share of held-out subjects whose class is found, 0 to 1. control: the same, under the same penalty, for labels dealt out to the
    subjects at random, each as often as before. selectivity = accuracy - control, -1 to 1 (Hewitt & Liang 2019). majority class: what one
    word for all gets right. As nobody can know the control label of a held-out subject, the control shows chance; how much the probe can learn
    by heart is its share right on the subjects that it was trained on, which is stated too. Bands are one standard error over the folds.
    Layer -1 is what enters the first block. What a probe reads need not be what the model uses. An organism is asked about what it was
    taught; of any other model it is assumed that it knows the bundled tables of countries and animals.
    """

    title = "Linear probes, layer by layer"
    paper = "Alain & Bengio 2016, arXiv 1610.01644; control tasks: Hewitt & Liang 2019, arXiv 1909.03368"
    direction = "higher: the property can be read off this layer by a linear map, for subjects that the map never saw"
    property: str = setting("continent", "What is to be read off: of countries continent, language and currency; of animals their class; else of authors",
                            choices=PROPERTIES)
    token: str = setting("last token", "Whose hidden state is read: of the whole prompt's last token, or of the subject's", choices=TOKENS)
    prompt: str = setting("", "Text with {s} where the subject stands; empty takes the first sentence that teaches the property, up to its answer", lines=2)
    subjects: int = setting(200, "At most so many subjects, drawn by seed", low=20, high=1000)
    folds: int = setting(5, "Parts that the subjects are cut into; each is held out once", low=2, high=10)
    controls: int = setting(2, "How often labels are dealt out at random", low=1, high=20)

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.trace._probe import probes

        yield from probes(self, model, data)
