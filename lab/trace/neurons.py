"""Single neurons of one cell: the strongest by attribution, each then restored alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lab.events import Event, Progress, Scatter
from lab.experiment import setting
from lab.trace._fact import OneFact

if TYPE_CHECKING:
    from lab.data import Data
    from models.model import Model


@dataclass(frozen=True, kw_only=True)
class NeuronTrace(OneFact):
    """The subject is corrupted with noise; then single neurons of the MLP of one layer are put back at one token, one at a time.

    A neuron is one of the numbers that go into the MLP's last matrix. All are estimated to first order; the `top` strongest by that estimate
    are run exactly, and both figures are shown: on the diagonal the estimate is right.
    """

    title = "Causal trace of single neurons"
    paper = "Kramár et al. 2024, arXiv 2403.00745; Meng et al. 2022, arXiv 2202.05262"
    direction = "higher: restoring this neuron alone brings more of the answer's probability back"
    token: int = setting(-1, "At which token; 0 is the first, -1 the last", low=-256, high=255)
    layer: int = setting(-1, "In which layer; 0 is the first, -1 the last", low=-200, high=199)
    top: int = setting(64, "How many neurons are restored exactly, the strongest by attribution first", low=1, high=4096)

    def run(self, model: Model, data: Data) -> Iterator[Event]:
        from lab.trace._case import prepare
        from lab.trace._gradient import gradients
        from lab.trace._one import effects, place_of_layer, position, question
        from lab.trace._sites import NEURON
        from lab.trace._sweep import Override

        yield Progress(0, 0, "clean and corrupted runs")
        case = prepare(model, question(self), data.subjects, frozenset({NEURON}), graph=True)
        case.replay.taps.check(NEURON, "model", "Choose another model")
        token, layer = position(case.prompt, self.token), place_of_layer(case, self.layer, NEURON)
        yield Progress(0, 0, "attribution of all neurons")
        assert case.log_probs is not None
        slope = gradients(case.replay, case.log_probs, case.score)[NEURON, layer][1:, token]
        kept = case.replay.kept(NEURON, layer)[:, token]
        guess = ((kept[:1] - kept[1:]) * slope).double().mean(0).cpu().numpy()
        chosen = sorted(range(len(guess)), key=lambda n: (-abs(guess[n]), n))[: self.top]
        cells = [(Override(layer, NEURON, n, n + 1),) for n in chosen]
        exact, checked = yield from effects(model, case, cells, token, f"{len(chosen)} of {len(guess)} neurons")
        mean, prompt = exact.mean(1), case.prompt
        yield Scatter(
            f"{prompt.text} → {prompt.answer}", tuple(f"neuron {n}" for n in chosen), guess[chosen], mean, "attribution (first order)",
            "probability of the answer that came back", True, self.direction,
            facts=(f"{len(chosen)} of {len(guess)} neurons of layer {layer} at token {token}, {prompt.tokens[token].strip()!r}",
                   f"all neurons together, to first order: {guess.sum():+.4f}; total effect {case.clean - case.corrupted.mean():.3f}", checked))
