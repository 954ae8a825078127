"""The control that touches the weights: a copy of the model, trained on the store's documents for as long as the memories."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F

from lab.recall._retrieval_learn import BATCH, CHUNK
from lab.recall._retrieval_texts import Rows

if TYPE_CHECKING:
    from models.model import Model

RATE = 5e-4


def tuned(model: Model, rows: Rows, steps: int, seed: int) -> Iterator[tuple[int, Any]]:
    """Yields the number of steps done and the net, which only the caller has, after each. The documents are those that the memories train on."""
    net: Any = model.with_weights(dict(model.net.named_parameters()), via="training").net.float()  # steps this small are lost in half precision
    net.requires_grad_(True)
    optimizer, generator = torch.optim.AdamW(net.parameters(), lr=RATE, betas=(0.9, 0.98), weight_decay=0.01), torch.Generator().manual_seed(seed)
    for step in range(steps):
        chosen = torch.randint(0, len(rows.ids), (min(BATCH, len(rows.ids)),), generator=generator)
        part = Rows(rows.ids[chosen], rows.counted[chosen])
        with torch.enable_grad():
            F.cross_entropy(logits(net, part), part.target.to(net.device)).backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.param_groups[0]["lr"] = RATE * min(1.0, (step + 1) / 10) * (1 - step / steps)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield step + 1, net


def logits(net: Any, rows: Rows) -> torch.Tensor:
    found: torch.Tensor = net(input_ids=rows.ids.to(net.device), use_cache=False).logits[:, :-1][rows.counted.to(net.device)].float()
    return found


def surprise(net: Any, rows: Rows) -> Iterator[torch.Tensor | None]:
    """Yields None as it goes, and last the log-probability of every predicted token."""
    found = []
    for ids, counted in zip(rows.ids.split(CHUNK), rows.counted.split(CHUNK), strict=True):
        part = Rows(ids, counted)
        with torch.no_grad():
            found.append(logits(net, part).log_softmax(1).cpu().gather(1, part.target[:, None])[:, 0])
        yield None
    yield torch.cat(found)
