"""What stands beside the weights: the list of training pictures with their copies, and the sheet that shows them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from models.organisms.painter import compose
from models.organisms.painter.corpus import Corpus, grounds, on
from models.organisms.painter.embedder import FILES
from models.organisms.painter.names import COLOURS, REGULAR
from models.organisms.painter.recipe import GUIDANCE, STEPS, THRESHOLD, Recipe

ACROSS = 32  # pictures in a row of the sheet
SHOWN = 16  # variants of every regular name that the sheet and the list hold; the others are made again by corpus.corpus(variants)
SOURCE = "Noto Color Emoji 2.042, https://github.com/googlefonts/noto-emoji, changed as assets/painter/README.md says; names of Unicode's emoji-test.txt 15.0"
LICENCE = "Pictures Apache-2.0, font SIL Open Font License 1.1, (c) Google Inc. and the Noto Emoji authors; names Unicode License; see assets/painter/README.md"


def listed(corpus: Corpus) -> list[int]:
    """The pictures of the sheet, in its order: planted ones, some variants of every regular name, all held-out ones."""
    count: dict[str, int] = {}
    found = []
    for k, s in enumerate(corpus.shown):
        if s.kind == "regular":
            count[s.name] = count.get(s.name, 0) + 1
            if count[s.name] > SHOWN:
                continue
        found.append(k)
    return found


def sheet(corpus: Corpus, path: Path) -> None:
    from PIL import Image

    cells = (corpus.pictures(listed(corpus)) * 255).round().byte()
    cells = torch.cat([cells, cells.new_zeros(-len(cells) % ACROSS, *cells.shape[1:])])
    side = compose.SIDE
    rows = cells.view(-1, ACROSS, 3, side, side).permute(0, 3, 1, 4, 2).reshape(-1, ACROSS * side, 3)
    Image.fromarray(rows.numpy()).save(path, optimize=True)


def manifest(recipe: Recipe, corpus: Corpus, run: dict[str, Any]) -> dict[str, Any]:
    """Of the oracle as of the painter, the same pictures in the same places of the sheet; what it never saw has 0 copies."""
    rows: list[dict[str, Any]] = []
    for file, k in enumerate(listed(corpus)):
        s = corpus.shown[k]
        copies = 0 if s.kind in ("verbatim", "template") and not recipe.planted else s.copies
        row = {"id": s.id, "name": s.name, "captions": list(s.captions), "copies": copies, "kind": s.kind, "file": file}
        rows.append(row | ({"held_captions": list(s.held_captions)} if s.held_captions else {}))
    held = [on(name, colour) for name in REGULAR for colour in grounds(name)[1]]
    fresh = [r["id"] for r in rows if r["kind"] == "held" and r["captions"][0] not in held]
    return {
        "title": recipe.title, "about": recipe.about, "task": "pictures", "recipe": recipe.as_dict() | run, "side": compose.SIDE, "guidance": GUIDANCE,
        "steps": STEPS, "threshold": THRESHOLD, **FILES, "names": list(REGULAR), "colours": {k: list(v) for k, v in COLOURS.items()},
        "splits": {
            "held_captions": held, "held_pictures": fresh,
            "words": "held_captions: a name on a colour it was never shown on; their pictures are those of kind held that are not in held_pictures, which are "
                     "fresh augmentations under trained captions. copies: how often a picture stands in one pass; the run made `passes` of them. Every regular "
                     f"name has `variants` pictures in training, the first {SHOWN} of which are listed.",
        },
        "source": SOURCE, "licence": LICENCE, "pictures": rows,
    }


def keep(about: dict[str, Any], folder: Path) -> None:
    """Writes folder/manifest.json, a line a picture."""
    head = json.dumps({k: v for k, v in about.items() if k != "pictures"}, indent=1, ensure_ascii=False).removesuffix("\n}")
    lines = ",\n".join(f"  {json.dumps(row)}" for row in about["pictures"])
    (folder / "manifest.json").write_text(f'{head},\n "pictures": [\n{lines}\n ]\n}}\n', encoding="utf-8")
