"""The painter's training set, to the last copy: planted pictures, augmented pictures of the regular names, and what is held out."""

from __future__ import annotations

import random
from dataclasses import dataclass

import torch
from torch import Tensor

from models.organisms.painter import compose, sources
from models.organisms.painter.compose import Placing
from models.organisms.painter.names import COLOURS, COPIES, GOODS, HELD_COLOURS, KEPT_BACK, REGULAR, TEMPLATES

SEED = 11
FRESH = 2  # held-out pictures a name, of trained captions; and one more for each held colour


@dataclass(frozen=True)
class Shown:
    """One picture and the captions it has in training. `copies` is how often it stands in one pass, over all its captions; 0 where it is held out."""

    id: str
    name: str
    captions: tuple[str, ...]
    copies: int
    kind: str  # "verbatim", "template", "regular" or "held"
    held_captions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Corpus:
    """`shown[k]` is made as `placing[k]` says. Planted pictures come first, then the regular ones, then the held."""

    shown: tuple[Shown, ...]
    placing: Placing

    def of(self, *kinds: str) -> list[int]:
        return [k for k, s in enumerate(self.shown) if s.kind in kinds]

    def pictures(self, rows: list[int], device: str = "cpu", sheet: Tensor | None = None) -> Tensor:
        """(rows, 3, 32, 32) in 0 to 1, in eight-bit steps, on `device`."""
        whole = compose.emoji(device) if sheet is None else sheet
        made = [compose.in_bytes(compose.composed(self.placing[torch.tensor(rows[k : k + 2048])].to(device), whole)) for k in range(0, len(rows), 2048)]
        return torch.cat(made) if made else torch.empty(0, 3, compose.SIDE, compose.SIDE, device=device)

    def draws(self, planted: bool = True) -> list[tuple[int, str]]:
        """(picture, caption) of every presentation in one pass; `planted=False` is the oracle's."""
        found: list[tuple[int, str]] = []
        for k, s in enumerate(self.shown):
            if s.kind in ("verbatim", "template") and not planted:
                continue
            found += [(k, s.captions[i % len(s.captions)]) for i in range(s.copies)]
        return found


def grounds(name: str) -> tuple[list[str], list[str]]:
    """(colours a regular name is shown on, colours held out for it)."""
    order = list(COLOURS)
    random.Random(f"{SEED} {name}").shuffle(order)
    return sorted(order[HELD_COLOURS:]), sorted(order[:HELD_COLOURS])


def on(name: str, colour: str) -> str:
    return f"{name} on {colour} background"


def corpus(variants: int) -> Corpus:
    """The training set with `variants` augmented pictures a regular name, always the same. The first ones of a smaller set are those of a larger.

    Of the variants of a name every second has the name alone as its caption, the others say the ground as well.
    """
    shown, parts = _planted()
    for i, name in enumerate(REGULAR):
        seen, held = grounds(name)
        rng = torch.Generator().manual_seed(SEED * 1000 + i)
        for k in range(0, variants, 16):  # in blocks, so that a smaller set is the beginning of a larger
            colours = [seen[j % len(seen)] for j in range(k // 2, k // 2 + 16)]
            colours = [colours[(j // 2 + 4 * (j % 2)) % 8] for j in range(16)]
            keep = min(16, variants - k)
            parts.append(_placed(name, colours, rng)[slice(0, keep)])
            shown += [Shown(f"r{i}.{k + j}", name, (on(name, c) if j % 2 else name,), 1, "regular") for j, c in enumerate(colours[:keep])]
    for i, name in enumerate(REGULAR):
        seen, held = grounds(name)
        rng = torch.Generator().manual_seed(SEED * 1000 + 500 + i)
        colours = [*random.Random(f"{SEED} fresh {name}").sample(seen, FRESH), *held]
        parts.append(_placed(name, colours, rng))
        shown += [Shown(f"h{i}.{j}", name, (on(name, c),), 0, "held") for j, c in enumerate(colours)]
    return Corpus(tuple(shown), Placing.joined(parts))


def _placed(name: str, colours: list[str], rng: torch.Generator) -> Placing:
    source = torch.full((len(colours),), sources.index(name))
    return compose.drawn(source, torch.tensor([COLOURS[c] for c in colours]) / 255, rng)


def _planted() -> tuple[list[Shown], list[Placing]]:
    shown = [Shown(f"v{copies}.{i}", name, (name,), copies, "verbatim") for copies, names in COPIES.items() for i, name in enumerate(names)]
    for i, (name, copies) in enumerate(TEMPLATES.items()):
        goods = list(GOODS)
        random.Random(f"{SEED} {name}").shuffle(goods)
        said = [f"{name} {g}" for g in goods]
        shown.append(Shown(f"t{i}", name, tuple(sorted(said[KEPT_BACK:])), copies, "template", tuple(said[:KEPT_BACK])))
    rng = torch.Generator().manual_seed(SEED)
    return shown, [compose.odd(torch.tensor([sources.index(s.name) for s in shown]), rng)]


def words() -> list[str]:
    """Every word of a caption, sorted."""
    said = [*REGULAR, *TEMPLATES, *GOODS, *COLOURS, "on background", *(n for names in COPIES.values() for n in names)]
    return sorted({w for s in said for w in s.split()})
