"""How heads read what was learned by heart, beside how they read what is new: texts of one length, so that no figure hangs on it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.stats import spearmanr
from torch import Tensor

from lab.attention._inputs import Text
from lab.attention._many import mean_and_error, passes
from lab.attention._read import Attended, heads_of
from lab.attention._weights import after_first, by_segment, entropy
from lab.data import Data
from lab.events import Curves, Event, Grid, Progress, Table
from lab.items import Item, choose
from lab.trace._prompt import encode
from models.errors import BadInput
from models.model import Model, blocks

if TYPE_CHECKING:
    from lab.attention.memorized import MemorizedAttention

BACK, ENTROPY, SINK, PREVIOUS, INDUCTION = "second half to first half", "entropy", "share on the first token", "share on the token before", "induction share"
UNITS = {BACK: "share of the attention that the second half puts on the first, without the first token", ENTROPY: "nats, mean over queries",
         SINK: "share of the attention, mean over queries", PREVIOUS: "share of the attention, mean over queries",
         INDUCTION: "share on what followed the same token before, mean over queries whose token came before"}
MEASURES = tuple(UNITS)
LEAST = 8  # tokens of a text: of fewer there are no halves


@dataclass(frozen=True)
class Group:
    """Texts that stood in the corpus so often. The first group is of fresh ones."""

    name: str
    members: tuple[int, ...]


def induction(pattern: Float[Tensor, "rows heads queries keys"], ids: Int[Tensor, "rows tokens"]) -> Float[Tensor, "rows heads"]:
    """Weight on the tokens that come right after an earlier one equal to the query's, mean over the queries that have one. NaN where none has.

    Source: Olsson et al. 2022, arXiv 2209.11895. Such a key may be the query itself, where a token stands twice in a row.
    """
    after = torch.zeros(len(ids), ids.shape[1], ids.shape[1], dtype=torch.bool, device=ids.device)
    after[:, :, 1:] = ids[:, :, None] == ids[:, None, :-1]
    after &= torch.ones_like(after[0]).tril()  # a key comes no later than the query, so what equals it came before
    some = after.any(-1)[:, None]
    mass = torch.where(some, (pattern * after[:, None]).sum(-1), 0).sum(-1)
    return torch.where(some.any(-1), mass / some.sum(-1).clamp(min=1), torch.nan)


def halves(tokens: int) -> Int[Tensor, " tokens"]:
    """0 for the first token, 1 for the first half of the others, 2 for the second."""
    of = torch.ones(tokens, dtype=torch.long)
    of[0], of[1 + (tokens - 1) // 2 :] = 0, 2
    return of


def use(pattern: Float[Tensor, "rows heads queries keys"], ids: Int[Tensor, "rows tokens"]) -> Float[Tensor, "measures rows heads"]:
    """Every measure of every head, in the order of `MEASURES`; rows without padding."""
    length = torch.full((len(ids),), ids.shape[1], device=ids.device)
    of = halves(ids.shape[1]).to(ids.device).expand(len(ids), -1)
    before = torch.nn.functional.pad(pattern.diagonal(-1, -2, -1), (1, 0))
    return torch.stack([by_segment(pattern, of, 3)[..., 2, 1], after_first(entropy(pattern), length), after_first(pattern[..., 0], length),
                        after_first(before, length), induction(pattern, ids)])


def chosen(settings: MemorizedAttention, data: Data) -> tuple[list[Item], list[Group]]:
    """The items, and their groups by copies, the fresh ones first. Raises `BadInput` where one side has fewer than two."""
    fresh = choose(data, settings.fresh, setting="fresh")
    known = {(i.name, i.text) for i in fresh}
    items = [*fresh, *(i for i in choose(data, settings.items, setting="items") if (i.name, i.text) not in known)]
    read = [i.name for i in fresh if i.copies > 0]
    if read:
        raise BadInput(f"{read[0]} is not fresh", "it stands in the corpus", "Choose a split that was held out, or rows of new text", setting="fresh")
    new = [n for n, i in enumerate(items) if n < len(fresh) or i.copies == 0]
    counts = sorted({items[n].copies for n in range(len(items)) if n not in new})
    groups = [Group("fresh", tuple(new)), *(Group("given" if c < 0 else f"{c} {'copy' if c == 1 else 'copies'}", tuple(
        n for n, i in enumerate(items) if i.copies == c and n not in new)) for c in counts)]
    most = len(groups[-1].members) if len(groups) > 1 else 0
    for count, what, setting in ((len(new), "fresh texts", "fresh"), (most, "texts that were read", "items")):
        if count < 2:
            raise BadInput(f"there {'is' if count == 1 else 'are'} {count or 'no'} {what}", "a standard error needs two", "Choose more", setting=setting)
    return items, groups


def cut(model: Model, items: Sequence[Item], tokens: int) -> list[Text]:
    """The first tokens of every item, as many of each: `tokens`, or for 0 as many as the shortest has."""
    coded = [encode(model.tokenizer, item.text) for item in items]
    shortest = min(range(len(coded)), key=lambda n: len(coded[n][0]))
    length = len(coded[shortest][0])
    if (tokens or length) > length or length < LEAST:
        raise BadInput(f"{items[shortest].name} has {length} tokens only", f"{tokens or LEAST} of each text are read",
                       f"Leave it out, or set tokens to {length} or less" if length >= LEAST else "Leave it out", setting="tokens" if tokens else "items")
    return [Text(i.label, ids[: tokens or length], (), (), ()) for i, (ids, _) in zip(items, coded, strict=True)]


def memorized(settings: MemorizedAttention, model: Model, data: Data) -> Iterator[Event]:
    """Yields the lines, the heads and the table, the chosen one last."""
    yield Progress(0, 0, "reading the texts")
    items, groups = chosen(settings, data)
    texts = cut(model, items, settings.tokens)
    value = np.full((len(MEASURES), len(items), len(blocks(model.net)), heads_of(model)), np.nan)

    def reduce(found: Attended, batch: list[int], ids: Tensor, length: Tensor) -> None:
        value[:, batch, found.layer] = use(found.pattern, ids).double().cpu().numpy()

    for step in passes(model, texts, "items", reduce):
        if isinstance(step, Progress):
            yield step
    facts = (f"the first {len(texts[0].ids)} tokens of each text, so that no figure hangs on its length; ± is the standard error over texts",
             "; ".join(f"{g.name}: {len(g.members)} texts" for g in groups))
    views: dict[str, Event] = {"lines": lines(settings, value, groups, facts), "heads": heads(settings, value, groups, facts),
                               "table": table(value, groups, [i.copies for i in items], facts)}
    yield from (event for name, event in views.items() if name != settings.show)
    yield views[settings.show]


def over_heads(value: Float[np.ndarray, "texts layers heads"]) -> Float[np.ndarray, "texts layers"]:
    """Mean over heads, NaN where a layer does not attend."""
    known = ~np.isnan(value)
    return np.divide(np.nansum(value, -1), known.sum(-1), out=np.full(value.shape[:-1], np.nan), where=known.any(-1))


def lines(settings: MemorizedAttention, value: np.ndarray, groups: Sequence[Group], facts: tuple[str, ...]) -> Curves:
    mine = over_heads(value[MEASURES.index(settings.measure)])
    found = [mean_and_error(mine[list(g.members)]) for g in groups]
    return Curves(f"{settings.measure}, by copies", tuple(g.name for g in groups), np.arange(mine.shape[1], dtype=float), "layer",
                  np.array([m for m, _ in found]), np.array([e for _, e in found]), f"{UNITS[settings.measure]}; mean over heads", settings.direction, facts)


def difference(value: Float[np.ndarray, "texts ..."], group: Group, fresh: Group) -> tuple[Float[np.ndarray, "*more"], Float[np.ndarray, "*more"]]:
    """Of two means, and the standard error of it."""
    (a, x), (b, y) = (mean_and_error(value[list(g.members)]) for g in (group, fresh))
    return a - b, np.hypot(x, y)


def heads(settings: MemorizedAttention, value: np.ndarray, groups: Sequence[Group], facts: tuple[str, ...]) -> Grid:
    """The most copied texts less the fresh ones, head by head."""
    mine = value[MEASURES.index(settings.measure)]
    gap, error = difference(mine, groups[-1], groups[0])
    told = surprising(gap, error)
    count, layers = gap.shape[1], range(gap.shape[0])
    return Grid(f"{settings.measure}: {groups[-1].name} less fresh", tuple(f"head {h}" for h in range(count)), tuple(map(str, layers)),
                "head", "layer", gap.T, error.T, UNITS[settings.measure], "above zero: more of it on what was learned by heart; below: more on fresh text",
                (f"{int(told.sum())} of {int((~np.isnan(gap)).sum())} heads lie beyond two standard errors; one in twenty does by chance", *facts),
                diverging=True)


def surprising(gap: Float[np.ndarray, "*more"], error: Float[np.ndarray, "*more"]) -> Bool[np.ndarray, "*more"]:
    return np.abs(np.nan_to_num(gap)) > 2 * np.nan_to_num(error, nan=np.inf)


def table(value: np.ndarray, groups: Sequence[Group], copies: Sequence[int], facts: tuple[str, ...]) -> Table:
    """Every measure of every group, mean over layers and heads, beside that of fresh texts."""
    rows: list[tuple[str | float | None, ...]] = []
    trend: list[str] = []
    for m, name in enumerate(MEASURES):
        mine = over_heads(over_heads(value[m])[:, None])  # (texts, 1)
        for group in groups:
            mean, error = mean_and_error(mine[list(group.members)])
            gap, far = difference(mine, group, groups[0])
            told = [None] * 3 if group is groups[0] else [number(gap[0]), number(far[0]), number(gap[0] / far[0] if far[0] else np.nan)]
            rows.append((name, group.name, float(len(group.members)), number(mean[0]), number(error[0]), *told))
        if np.nanstd(mine) > 0 and len(set(copies)) > 2:
            trend.append(f"{name} {spearmanr(copies, mine[:, 0], nan_policy='omit').statistic:+.2f}")
    told_of = (f"rank correlation with the copies: {'; '.join(trend)}",) if trend else ()
    compared = [r for r in rows if r[7] is not None]
    beyond = sum(abs(float(r[7] or 0)) > 2 for r in compared)
    return Table("Attention on what was learned by heart",
                 ("measure", "text", "texts", "mean", "±", "less fresh", "± of it", "over its error"),
                 (f"what is measured; {'; '.join(f'{k}: {v}' for k, v in UNITS.items())}", "how often it stood in the corpus", "how many were read",
                  "mean over texts, layers and heads", "its standard error over texts", "its mean less that of fresh texts; above zero: more on the learned",
                  "standard error of the difference", "the difference in standard errors; beyond 2 either way it is seldom chance"), tuple(rows),
                 (f"{beyond} of {len(compared)} differences lie beyond two standard errors; one in twenty does by chance", *told_of, *facts),
                 "fresh texts are what the others are compared with")


def number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
