"""The plain way, as Meng et al. 2022 (arXiv 2202.05262) did it: for every cell a whole forward of one clean row and all noisy ones, with hooks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

from bench._worker import SAMPLES, Case, Engine, serve

WINDOW = 10


class Loop:
    """`kind` "hidden" restores a block's output; "mlp" the outputs of the MLPs of `WINDOW` layers around one. With " double" behind it all is done in double
    precision."""

    def __init__(self, case: Case, kind: str) -> None:
        self.case, (self.kind, _, precise) = case, kind.partition(" ")
        dtype = torch.float64 if precise else torch.float32
        self.net: Any = AutoModelForCausalLM.from_pretrained(case.model, dtype=dtype).eval().requires_grad_(False)
        self.ids, self.noise = case.tokens(SAMPLES + 1), case.corruption(dtype)

    def restored(self, layer: int) -> list[nn.Module]:
        layers = self.net.transformer.h
        if self.kind == "hidden":
            return [layers[layer]]
        return [block.mlp for block in layers[max(0, layer - WINDOW // 2) : min(len(layers), layer + WINDOW // 2)]]

    @torch.no_grad()
    def probability(self, token: int, modules: list[nn.Module]) -> float:
        """With the clean row's outputs of `modules` at `token` put into the noisy rows."""
        begin, end = self.case.subject

        def corrupt(_: nn.Module, args: Any, output: Tensor) -> None:
            output[1:, begin:end] += self.noise

        def restore(_: nn.Module, args: Any, output: Any) -> None:
            hidden = output[0] if isinstance(output, tuple) else output
            hidden[1:, token] = hidden[0, token]

        hooks = [self.net.transformer.wte.register_forward_hook(corrupt), *(m.register_forward_hook(restore) for m in modules)]
        logits = self.net(input_ids=self.ids, use_cache=False).logits
        for hook in hooks:
            hook.remove()
        return self.case.probability(logits[1:])

    def run(self) -> list[list[float]]:
        corrupted = self.probability(0, [])
        return [[self.probability(t, self.restored(layer)) - corrupted for layer in range(self.case.layers)] for t in range(len(self.case.ids))]


@torch.no_grad()
def build(case: Case, kind: str) -> Engine:
    loop = Loop(case, kind)
    return Engine(loop.run, lambda: [loop.probability(0, loop.restored(layer)) for layer in (0, 1)], loop.net(case.tokens(1)).logits[0])


if __name__ == "__main__":
    serve(build)
