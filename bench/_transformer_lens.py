"""TransformerLens, as its own patching module does it: `generic_activation_patch` over layers and positions, on the noisy rows alone.

Runs in its own environments: see _peers.py. Version 2 builds its network ("hooked") from the folder, with its own processing of weights but for
the centring of the unembedding, which would shift the logits that are compared; version 4 wraps the network of transformers ("bridge").
"""

from __future__ import annotations

from typing import Any

import torch
from transformer_lens import patching

from bench._worker import SAMPLES, Case, Engine, serve


def bridge(case: Case) -> Any:
    from transformer_lens.model_bridge import TransformerBridge

    return TransformerBridge.boot_transformers(str(case.model), device="cpu", dtype=torch.float32)


def hooked(case: Case) -> Any:
    from transformer_lens import HookedTransformer, HookedTransformerConfig
    from transformer_lens.pretrained.weight_conversions import convert_gpt2_weights
    from transformers import GPT2LMHeadModel

    net = GPT2LMHeadModel.from_pretrained(case.model).eval()
    old = net.config
    config = HookedTransformerConfig(
        d_model=old.n_embd, n_layers=old.n_layer, n_heads=old.n_head, d_head=old.n_embd // old.n_head, d_mlp=4 * old.n_embd, n_ctx=old.n_positions,
        d_vocab=old.vocab_size, act_fn=old.activation_function, eps=old.layer_norm_epsilon, normalization_type="LN",
        original_architecture="GPT2LMHeadModel", device="cpu", seed=0)
    model = HookedTransformer(config)
    model.load_and_process_state_dict(convert_gpt2_weights(net, config), fold_ln=True, center_writing_weights=True, center_unembed=False,
                                      fold_value_biases=True)
    return model.eval()


def build(case: Case, kind: str) -> Engine:
    torch.set_grad_enabled(False)
    model, noise, (begin, end) = bridge(case) if kind == "bridge" else hooked(case), case.corruption(), case.subject
    noisy, clean = case.tokens(SAMPLES), case.tokens(1)
    logits = model(clean)[0]

    def corrupt(embedded, hook):
        embedded[:, begin:end] += noise
        return embedded

    def run() -> list[list[float]]:
        _, cache = model.run_with_cache(clean, names_filter=lambda name: name.endswith("hook_resid_post"))
        model.add_hook("hook_embed", corrupt, is_permanent=True)
        corrupted = case.probability(model(noisy))
        found = patching.generic_activation_patch(model, noisy, cache, lambda x: torch.tensor(case.probability(x)), patching.layer_pos_patch_setter,
                                                  "resid_post", index_axis_names=("layer", "pos"))
        model.reset_hooks(including_permanent=True)
        return (found.double().T - corrupted).tolist()

    return Engine(run, lambda: [model.run_with_cache(noisy) for _ in range(2)], logits)


if __name__ == "__main__":
    serve(build)
