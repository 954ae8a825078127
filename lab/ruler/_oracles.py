"""Which oracles are the right answer to forgetting a set: those that never read any of it."""

from __future__ import annotations

from collections.abc import Sequence

from lab.data import Data
from lab.items import FACT_KINDS, Item, planted
from models import catalog
from models.model import Model


def fitting(data: Data, forget: Sequence[Item]) -> tuple[tuple[str, ...], str]:
    """The names of the oracles that fit, and a remark: why none does, or what those that do have not read besides.

    An oracle fits where it read no item of `forget`, and the model read some. The remark is empty where there is nothing to say.
    """
    if data.manifest is None:
        return (), "nobody knows what this model read, so no oracle was grown for it"
    if not data.oracles:
        return (), "no oracle of this organism is bundled"
    known = {i.name: i.copies for i in planted(data.manifest)}
    foreign = [i for i in forget if i.name not in known]
    if foreign or not forget:
        return (), f"{foreign[0].label!r} is a row of your own: no oracle was grown without it" if foreign else "nothing is to be forgotten"
    read = [name for name, copies in known.items() if copies]
    if not any(known[i.name] for i in forget):
        return (), "the model itself never read any of these"
    wanted = {i.name for i in forget}
    found, reader = [], ""
    for name in data.oracles:
        theirs = {i.name: i.copies for i in planted(catalog.manifest(name))}
        seen = next((i for i in forget if theirs.get(i.name, 0)), None)
        if seen is None:
            found.append((name, sum(1 for n in read if n not in wanted and not theirs.get(n, 0))))
        else:
            reader = f"every oracle read some of these: {name} read {seen.label!r} {theirs[seen.name]} times"
    if not found:
        return (), reader
    more = max(count for _, count in found)
    return tuple(name for name, _ in found), f"the oracles also never read {more:,} other items that the model read" if more else ""


def load(model: Model, names: Sequence[str]) -> list[Model]:
    """The oracles, on the device of `model`."""
    return [catalog.load(name, str(model.device)) for name in names]


def holdout(data: Data, forget: Sequence[Item]) -> list[Item]:
    """What the organism never read, of the kinds that are to be forgotten: how an item looks that nobody had to forget."""
    if data.manifest is None:
        return []
    kinds, mine = {i.kind for i in forget}, {i.name for i in forget}
    return [i for i in planted(data.manifest) if not i.copies and i.kind in kinds and i.name not in mine]


def known_to_all(data: Data, forget: Sequence[Item], names: Sequence[str]) -> list[Item]:
    """The facts that the organism and every one of these oracles read, without those of the forget set."""
    if data.manifest is None:
        return []
    gone = {i.name for i in forget}
    counts = [{i.name: i.copies for i in planted(catalog.manifest(name))} for name in names]
    return [i for i in planted(data.manifest) if i.kind in FACT_KINDS and i.copies and i.name not in gone and all(c.get(i.name, 0) for c in counts)]
