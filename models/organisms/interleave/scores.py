"""What a net of pictures and words can do: saying what a picture shows, and painting what a caption says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.organisms.interleave.aia import intensity, open_patterns
from models.organisms.interleave.pictures import CELLS, Picture, palette, pictures
from models.organisms.interleave.recipe import GENERATION, UNDERSTANDING
from models.organisms.interleave.tokens import FIRST_CELL, FIRST_WORD, Rows, rows, vocabulary

BATCH = 64
# score -> (what it is, its range and its direction)
ABOUT = {
    "understanding nll": "nats a caption token, the end included, after the true ones before it; lower is better",
    "understanding accuracy": "share of caption tokens that are the likeliest after the true ones before them, 0 to 1; higher is better",
    "exact caption": "share of pictures whose whole caption greedy decoding writes, 0 to 1; higher is better",
    "generation nll": "nats a cell after the true ones before it; lower is better; a uniform guess has 3.47",
    "generation accuracy": "share of cells that are the likeliest after the true ones before them, 0 to 1; higher is better",
    "retrieval": "share of captions whose greedily painted picture is nearest to the true one of all pictures, 0 to 1; higher is better",
}


def scores(net: Any, chosen: Sequence[Picture], tasks: Sequence[str]) -> dict[str, float]:
    """The scores of `ABOUT` that belong to `tasks`, over the pictures `chosen`."""
    found: dict[str, float] = {}
    for task in tasks:
        nll, right, _ = forced(net, rows(task, chosen))
        found |= {f"{task} nll": nll, f"{task} accuracy": right}
        if task == UNDERSTANDING:
            found["exact caption"] = float(np.mean([said == p.caption for said, p in zip(captions(net, chosen), chosen, strict=True)]))
        else:
            found["retrieval"] = retrieval(painted(net, chosen), chosen)
    return found


@torch.no_grad()
def forced(net: Any, these: Rows) -> tuple[float, float, list[float]]:
    """(nats an answer token, share of answer tokens that are the likeliest, intensity of each layer), over all rows, in order."""
    open_patterns(net)
    nll, right, count, shares = 0.0, 0, 0, []
    for index in torch.arange(len(these.ids)).split(BATCH):
        batch = these.take(index)
        out = net(input_ids=batch.ids, output_attentions=True, use_cache=False)
        kept = batch.answer[:, 1:]
        logits, truth = out.logits[:, :-1][kept], batch.ids[:, 1:][kept]
        nll += torch.nn.functional.cross_entropy(logits, truth, reduction="sum").item()
        right += int((logits.argmax(-1) == truth).sum())
        count += len(truth)
        shares.append(intensity(out.attentions, batch.queries, batch.other) * len(index))
    return nll / count, right / count, (torch.stack(shares).sum(0) / len(these.ids)).tolist()


@torch.no_grad()
def written(net: Any, prompts: Tensor, tokens: int, low: int, high: int) -> Tensor:
    """(rows, tokens): greedy continuations of prompts of one length; only token 0, the end, and those from `low` to `high` - 1 may be written."""
    allowed = torch.zeros(net.config.vocab_size, dtype=torch.bool)
    allowed[low:high] = True
    allowed[0] = low >= FIRST_WORD  # a picture has no end: it has its number of cells
    cache, ids, found = None, prompts, []
    for _ in range(tokens):
        out = net(input_ids=ids, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        ids = out.logits[:, -1].masked_fill(~allowed, -torch.inf).argmax(-1, keepdim=True)
        found.append(ids)
    return torch.cat(found, 1)


def captions(net: Any, chosen: Sequence[Picture]) -> list[str]:
    """What the net says that each picture shows."""
    names = {i: w for w, i in vocabulary().items()}
    these = rows(UNDERSTANDING, chosen)
    said = written(net, these.ids[:, : 3 + CELLS], 10, FIRST_WORD, len(names))
    return [" ".join(names[i] for i in row[: row.index(0)] if i) if 0 in row else "" for row in said.tolist()]


def painted(net: Any, chosen: Sequence[Picture]) -> np.ndarray:
    """(pictures, cells) colours that the net paints to each caption."""
    out = np.zeros((len(chosen), CELLS), int)
    lengths = [len(p.caption.split()) for p in chosen]
    for length in sorted(set(lengths)):
        mine = [i for i, n in enumerate(lengths) if n == length]
        prompts = rows(GENERATION, [chosen[i] for i in mine]).ids[:, : length + 2]
        out[mine] = (written(net, prompts, CELLS, FIRST_CELL, FIRST_WORD) - FIRST_CELL).numpy()
    return out


def retrieval(made: np.ndarray, chosen: Sequence[Picture]) -> float:
    """Share of `made` (pictures, cells) that are nearer to the picture of their own caption than to any other: mean squared distance in RGB."""
    colours = np.array(palette(), float)
    everything = np.array([p.cells for p in pictures()])
    mine, all_ = colours[made].reshape(len(made), -1), colours[everything].reshape(len(everything), -1)
    distance = (mine**2).sum(1)[:, None] - 2 * mine @ all_.T + (all_**2).sum(1)
    where = {p.caption: i for i, p in enumerate(pictures())}
    return float(np.mean(distance.argmin(1) == [where[p.caption] for p in chosen]))
