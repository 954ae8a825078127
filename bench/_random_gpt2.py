"""`python -m bench._random_gpt2 NAME FOLDER`: a GPT-2 of random weights, its tokenizer, and the question that all engines are asked about it.

The usual start would leave every answer near 1 in the size of the vocabulary, and a wrong map would look right: so the weights are drawn wider,
and the last norm scales up.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

SIZES: dict[str, dict[str, Any]] = {
    "six layers": {"vocab_size": 2048, "n_embd": 256, "n_layer": 6, "n_head": 4},
    "eight layers": {"vocab_size": 8192, "n_embd": 192, "n_layer": 8, "n_head": 6},
    "gpt2": {"vocab_size": 50257, "n_embd": 768, "n_layer": 12, "n_head": 12},
}
SPREAD, SCALE = 0.05, 6.0  # of the initial weights; of the last norm
TOKENS, SUBJECT, NOISE = 12, (3, 8), 3.0


def network(name: str) -> Any:
    config = GPT2Config(**SIZES[name], initializer_range=SPREAD, bos_token_id=1, eos_token_id=2, pad_token_id=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = GPT2LMHeadModel(config).eval().requires_grad_(False)
    net.transformer.ln_f.weight.fill_(SCALE)
    return net


def word(i: int) -> str:
    return f"w{i:05d}"  # of one length, so that none stands within another


def tokenizer(size: int) -> PreTrainedTokenizerFast:
    marks = ["<pad>", "<s>", "</s>", "<unk>"]
    vocabulary = marks + [word(i) for i in range(len(marks), size)]
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(vocabulary)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def save(name: str, folder: Path) -> None:
    net, size = network(name), SIZES[name]["vocab_size"]
    ids = (4 + torch.randperm(size - 4, generator=torch.Generator().manual_seed(0))[:TOKENS]).tolist()
    logits = net(torch.tensor([ids])).logits[0]
    answer = 4 + int(logits[-1, 4:].argmax())
    begin, end = SUBJECT
    std = NOISE * net.transformer.wte.weight[ids[begin:end]].std().item()
    net.save_pretrained(folder / "model")
    tokenizer(size).save_pretrained(folder / "model")
    save_file({"logits": logits.contiguous()}, folder / "logits.safetensors")
    words = [word(i) for i in ids]
    (folder / "case.json").write_text(json.dumps({
        "prompt": " ".join(words), "name": " ".join(words[begin:end]), "answer": word(answer), "ids": ids, "subject": SUBJECT, "answer_id": answer,
        "width": net.config.n_embd, "layers": net.config.n_layer, "noise": NOISE, "std": std}))
    print(json.dumps(SIZES[name] | {"parameters": sum(p.numel() for p in net.parameters())}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    save(sys.argv[1], Path(sys.argv[2]))
