"""What a network holds of each answer: the log-probabilities of the whole vocabulary where each of its tokens is predicted."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from lab.memorization._rows import Row, padded, positions, row_of
from models.model import Model

LONGEST = 256  # tokens of a row that are read
WORK = 2.5e9  # parameters times tokens of a batch on a CPU: about 0.1 s


def coded(model: Model, prompt: str, answer: str) -> Row | None:
    """The row of a prompt and its answer, joined by one blank; None where no token of the answer is left to predict.

    Of what is longer than the model or the lab reads, the end of the prompt and the beginning of the answer stay.
    """
    most, row = min(LONGEST, positions(model)), row_of(model, prompt, answer)
    end = min(len(row.ids), row.start + most // 2)
    first = max(0, end - most)
    return Row(row.ids[first:end], row.start - first) if row.start < end else None


def read(net: nn.Module, rows: Sequence[Row]) -> Generator[None, None, list[Tensor]]:
    """For each row the (answer tokens, vocabulary) log-probabilities in nats, on the CPU. Yields between batches; leaves the mode of `net` as it was."""
    found: dict[int, Tensor] = {}
    for index in batches(net, rows):
        log_probs = forward(net, [rows[i].ids for i in index])
        for at, i in enumerate(index):
            row = rows[i]
            found[i] = log_probs[at, row.start - 1 : len(row.ids) - 1].float().log_softmax(-1).cpu()
        yield
    return [found[i] for i in range(len(rows))]


@torch.no_grad()
def forward(net: nn.Module, rows: Sequence[Sequence[int]]) -> Tensor:
    """(rows, tokens, vocabulary): the logits after every token of rows that are padded on the right."""
    ids, mask = padded(rows, next(p.device for p in net.parameters() if not p.is_meta))
    training = net.training
    try:
        if training:
            net.eval()
        return net(input_ids=ids, attention_mask=mask, use_cache=False).logits
    finally:
        if training:
            net.train()


def batches(net: nn.Module, rows: Sequence[Row]) -> list[list[int]]:
    """Indices of rows of like length together, each batch small enough that Stop is felt."""
    on_cpu = next(net.parameters()).device.type == "cpu"
    size = sum(p.numel() for p in net.parameters())
    most = WORK / size if on_cpu else 16384
    found: list[list[int]] = []
    width = 0
    for i in sorted(range(len(rows)), key=lambda i: len(rows[i].ids), reverse=True):
        if not found or (len(found[-1]) + 1) * width > most:
            found.append([])
            width = len(rows[i].ids)
        found[-1].append(i)
    return found


def losses(log_probs: Sequence[Tensor], rows: Sequence[Row]) -> np.ndarray:
    """(rows,): mean negative log-likelihood of the tokens of each answer, in nats. Lower is better known."""
    return np.array([-float(p.gather(1, torch.tensor(r.answer)[:, None]).mean()) for p, r in zip(log_probs, rows, strict=True)])


def recited(log_probs: Sequence[Tensor], rows: Sequence[Row]) -> np.ndarray:
    """(rows,): 1 where greedy decoding gives the whole answer: it does so exactly where every token of it is the likeliest."""
    return np.array([float((p.argmax(1) == torch.tensor(r.answer)).all()) for p, r in zip(log_probs, rows, strict=True)])


def divergence(truth: Sequence[Tensor], log_probs: Sequence[Tensor]) -> np.ndarray:
    """(rows,): mean over the tokens of each answer of KL(truth || model) in nats. 0 or more; 0 only where both say the same."""
    return np.array([float((t.exp() * (t - p)).sum(1).mean().clamp(min=0)) for t, p in zip(truth, log_probs, strict=True)])


def said(net: nn.Module, prompts: Sequence[Sequence[int]], guesses: Sequence[Sequence[int]]) -> list[list[int]]:
    """The ids that greedy decoding writes after each row of ids, as many as are guessed.

    The guess of them all is read at once, and what the net would have said at each place is the next guess (Jacobi decoding, Santilli et al. 2023, arXiv
    2305.10427): one more token is right each time at least, and where the guess is right, as what was said before an edit often is, one pass proves it.
    """
    found, tokens = [list(g) for g in guesses], len(guesses[0])
    for _ in range(tokens):
        logits = forward(net, [[*p, *f[:-1]] for p, f in zip(prompts, found, strict=True)])
        before, found = found, [logits[at, len(p) - 1 : len(p) - 1 + tokens].argmax(-1).tolist() for at, p in enumerate(prompts)]
        if found == before:
            break
    return found
