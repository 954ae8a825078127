"""nnsight, as its tutorial on activation patching does it: a trace of the noisy rows for each cell, in which one clean state is put back.

Runs in its own environment: see _peers.py.
"""

from __future__ import annotations

import nnsight
import torch
from nnsight import LanguageModel

from bench._worker import SAMPLES, Case, Engine, serve


def build(case: Case, _: str) -> Engine:
    torch.set_grad_enabled(False)
    model = LanguageModel(str(case.model), dtype=torch.float32, dispatch=True)
    noise, (begin, end) = case.corruption(), case.subject
    noisy, clean = case.tokens(SAMPLES), case.tokens(1)

    def states() -> list[torch.Tensor]:
        with model.trace(clean):
            kept = nnsight.save([])
            for block in model.transformer.h:
                kept.append(block.output)
        return kept

    def corrupted() -> float:
        with model.trace(noisy):
            model.transformer.wte.output[:, begin:end] += noise
            logits = model.lm_head.output.save()
        return case.probability(logits)

    def patched(state: torch.Tensor, token: int, layer: int) -> float:
        with model.trace(noisy):
            model.transformer.wte.output[:, begin:end] += noise
            model.transformer.h[layer].output[:, token] = state[:, token]
            logits = model.lm_head.output.save()
        return case.probability(logits)

    def run() -> list[list[float]]:
        kept, base = states(), corrupted()
        return [[patched(kept[layer], token, layer) - base for layer in range(case.layers)] for token in range(len(case.ids))]

    with model.trace(clean):
        logits = model.lm_head.output.save()
    return Engine(run, lambda: [patched(states()[0], token, 0) for token in (0, 1)], logits[0])


if __name__ == "__main__":
    serve(build)
