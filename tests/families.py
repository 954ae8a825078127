"""Tiny random checkpoints of many architectures, made from their configs: nothing is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

LAYERS, WIDTH, HEADS, VOCABULARY = 3, 32, 4, 64
MARKS = ["<pad>", "<s>", "</s>", "<unk>"]
TEXT = """the capital of France Italy Peru is Paris Rome Lima . , a city river near in Germany Berlin Spain Madrid language spoken people
speak French Spanish German gold silver metal symbol Au Ag what which and was born to poet painter Anna Marlow wrote book about sea Eiffel
Tower stands can be found by train"""

SHORT = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS}
PLAIN = SHORT | {"intermediate_size": 2 * WIDTH, "max_position_embeddings": 64}
GROUPED = PLAIN | {"num_key_value_heads": 2}
HEAD = {"head_dim": WIDTH // HEADS}
# as many experts as blocks, so that the one list could be taken for the other
EXPERTS = {"num_experts": LAYERS, "num_local_experts": LAYERS, "num_experts_per_tok": 2, "moe_intermediate_size": WIDTH}
OLD = {"n_embd": WIDTH, "n_layer": LAYERS, "n_head": HEADS, "n_positions": 64}

FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("gpt2", OLD),
    "gpt_neox": ("gpt_neox", PLAIN),
    "llama": ("llama", GROUPED),
    "mistral": ("mistral", GROUPED | {"sliding_window": 8}),
    "qwen2": ("qwen2", GROUPED | {"tie_word_embeddings": True}),
    "qwen3": ("qwen3", GROUPED | HEAD | {"tie_word_embeddings": True}),
    "olmo2": ("olmo2", GROUPED),
    "gemma2": ("gemma2", GROUPED | HEAD | {"sliding_window": 8, "query_pre_attn_scalar": 8}),
    "gemma3": ("gemma3_text", GROUPED | HEAD | {"sliding_window": 8, "query_pre_attn_scalar": 8}),
    "phi": ("phi", PLAIN),
    "phi3": ("phi3", GROUPED),
    "opt": ("opt", SHORT | {"ffn_dim": 2 * WIDTH, "word_embed_proj_dim": WIDTH, "max_position_embeddings": 64}),
    "gptj": ("gptj", OLD | {"rotary_dim": 4}),
    "gpt_neo": ("gpt_neo", {"hidden_size": WIDTH, "num_layers": LAYERS, "num_heads": HEADS, "max_position_embeddings": 64,
                            "attention_types": [[["global", "local", "global"], 1]]}),
    "bloom": ("bloom", {"hidden_size": WIDTH, "n_layer": LAYERS, "n_head": HEADS}),
    "falcon": ("falcon", SHORT),
    "stablelm": ("stablelm", GROUPED),
    "mamba": ("mamba", {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "state_size": 8}),
    "qwen3_moe": ("qwen3_moe", GROUPED | HEAD | EXPERTS),
    "mixtral": ("mixtral", GROUPED | EXPERTS),
    "olmoe": ("olmoe", GROUPED | EXPERTS),
    "jamba": ("jamba", GROUPED | EXPERTS | {"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2,
                                            "expert_layer_offset": 1, "mamba_d_state": 8, "mamba_dt_rank": 4}),
}


def family(name: str) -> tuple[Any, Any]:
    """(config, net): the same weights every time, frozen, float32, on the CPU; no global seed is touched."""
    kind, sizes = FAMILIES[name]
    config = AutoConfig.for_model(kind, vocab_size=VOCABULARY, pad_token_id=0, bos_token_id=1, eos_token_id=2, **sizes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        with torch.no_grad():  # the usual start of 0.02 leaves logits so even that a wrong net would look right
            for parameter in net.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return config, net.eval().requires_grad_(False)


def tokenizer() -> PreTrainedTokenizerFast:
    """A fast tokenizer of whole words, `VOCABULARY` of them."""
    words = MARKS + TEXT.split()
    words += [f"w{i}" for i in range(VOCABULARY - len(words))]
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def save(name: str, folder: Path, *, shard: str = "50GB") -> Any:
    """Saves the checkpoint of `family(name)` with its tokenizer, in safetensors files of at most `shard`; returns the net."""
    _, net = family(name)
    net.save_pretrained(folder, max_shard_size=shard)
    tokenizer().save_pretrained(folder)
    return net


def prompts(rows: int = 2, length: int = 12) -> torch.Tensor:
    """(rows, length) token ids, the same every time."""
    return torch.randint(len(MARKS), VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(0))
