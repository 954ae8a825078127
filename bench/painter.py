"""`python -m bench.painter` measures the grown painter, its oracle and its transformer, and writes models/weights/painter/README.md.

Pictures are kept in models/weights/.growing as they are drawn, so that an interrupted run goes on. The threshold of a copy and the default guidance come
out of it; they are written into the manifests, and recipe.py must say the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench import _dori_page as dori
from bench import _painter_cells as cells_of
from bench import _painter_rules as rules
from bench._painter_cells import GUIDANCES, MANY, ORACLE_AT, THIN, THINNER, Near, curve, group, kept_back, known, many, named, near, own, planted, regular
from bench._painter_draws import drawn
from bench._painter_nets import among_all, cpu_step, load, loss_table, rebuilt, rounded_again, seconds
from bench._painter_page import page, strips
from models import catalog
from models.model import Model
from models.organisms.painter import recipe
from models.organisms.painter.manifest import keep
from models.organisms.painter.names import REGULAR

KINDS = ("held", "ground", "plain")


@dataclass(frozen=True, eq=False)
class Found:
    """All that the page tells."""

    threshold: float
    oracle: dict[float, Near]
    painter: dict[float, Near]
    own: dict[float, np.ndarray]  # SSIM with the caption's own picture
    ddt: dict[float, Near]
    guidance: float
    largest: float  # the largest guidance at which enough comes back
    more: Near
    kept: Near
    regular: dict[tuple[str, float], tuple[Near, np.ndarray]]  # and whether each is named right
    rest: dict[str, Any]

    def share(self, found: Near, groups: Sequence[str], which: str) -> float:
        """Share of pictures of one group that are copies."""
        return float((found.ssim[[g == which for g in groups]] > self.threshold).mean())


def main() -> None:
    torch.set_num_threads(1)
    models = [catalog.load(n, "cpu") for n in recipe.RECIPES]
    found = measured(*models)
    folder = models[0].folder
    assert folder is not None
    strips(models[0], models[1], found, folder)
    (folder / "README.md").write_text(page(found), encoding="utf-8")
    dori.write(dori.finished(), Path(folder, "README.md"))
    for model in models:
        about = dict(catalog.manifest(model.name))
        assert model.folder is not None
        if (about["guidance"], about["threshold"]) != (found.guidance, found.threshold):
            keep(about | {"guidance": found.guidance, "threshold": found.threshold}, Path(model.folder))
    if (found.guidance, found.threshold) != (recipe.GUIDANCE, recipe.THRESHOLD):
        print(f"recipe.py must say GUIDANCE, THRESHOLD = {found.guidance}, {found.threshold}")


def measured(painter: Model, oracle: Model, ddt: Model) -> Found:
    rows, groups = planted(), [group(r) for r in planted()]
    own_of = {g: own(drawn(painter, curve(painter, g)), rows) for g in GUIDANCES}
    near_of = {g: near(painter, curve(painter, g)) for g in GUIDANCES}
    of_oracle = {g: near(oracle, curve(oracle, g)) for g in ORACLE_AT}
    threshold = rules.threshold([n.ssim for n in of_oracle.values()])
    is_many = np.array([g in map(str, MANY) for g in groups])
    shares = {g: {str(c): float((n.ssim[[x == str(c) for x in groups]] > threshold).mean()) for c in MANY} for g, n in near_of.items()}
    largest = rules.largest(shares)
    guidance = rules.guidance(shares, {g: float(o[is_many].mean()) for g, o in own_of.items()})
    cells = {(kind, guidance): regular(kind, guidance) for kind in KINDS}
    thin = {("held", g): regular("held", g, THINNER) for g in (GUIDANCES[0], GUIDANCES[-1])}
    named_of = {k: named(painter, c) for k, c in cells.items()} | {k: named(painter, c, THINNER) for k, c in thin.items()}
    names = REGULAR[::THIN]
    ssim_vae, psnr = rebuilt(painter, known().images[[r.file for r in rows]])
    held = rebuilt(painter, known().images[[r.file for r in known().of("held")][::3]])[1]
    rest: dict[str, Any] = {
        "vae": ssim_vae, "psnr": psnr, "psnr held": held, "loss": loss_table([painter, oracle, ddt]),
        "rounding": rounded_again(painter, [r.captions[0] for r in rows if r.kind == "verbatim"][::2], guidance),
        "all": among_all(painter, list(cells.values()), names, names[::3]),
        "seconds": {m.name: {n: seconds(m, guidance, n) for n in (1, 2)} for m in (painter, ddt)}, "load": load(), "step": cpu_step(),
        "seeds": (len(cells_of.FEW), len(cells_of.FEW) + len(cells_of.MORE), len(cells_of.ORACLE_SEEDS)),
    }
    return Found(threshold, of_oracle, near_of, own_of, {g: near(ddt, curve(ddt, g)) for g in ORACLE_AT}, guidance, largest,
                 near(painter, many(guidance)), near(painter, kept_back(guidance)),
                 {k: (near(painter, c), named_of[k]) for k, c in {**cells, **thin}.items()}, rest)


if __name__ == "__main__":
    main()
