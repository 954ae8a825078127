"""From a colour font and Unicode's list of names to one sheet of small pictures: `python -m models.organisms.painter draw`.

Run once; what it wrote is assets/painter/, which all else reads.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np

from models.organisms.interleave.draw import BITMAP, listed
from models.organisms.painter.names import COPIES, GROUPS, REGULAR, TEMPLATES
from models.organisms.painter.sources import ACROSS, SIDE

SHADES = 64  # of each colour channel and of transparency that are kept: the sheet is half as large


def painted(text: str, font: object) -> np.ndarray:
    """(SIDE, SIDE, 4) uint8: the emoji, centred on nothing. Where nothing is to be seen, the colour is 0."""
    from PIL import Image, ImageDraw

    image = Image.new("RGBA", (136, 128), (0, 0, 0, 0))
    ImageDraw.Draw(image).text((0, 0), text, font=font, embedded_color=True)  # type: ignore[arg-type]
    box = image.getbbox() or (0, 0, 136, 128)
    side = max(box[2] - box[0], box[3] - box[1])
    square = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    square.paste(image.crop(box), ((side - box[2] + box[0]) // 2, (side - box[3] + box[1]) // 2))
    small = np.asarray(square.resize((SIDE, SIDE), Image.Resampling.BOX), np.uint8)  # PIL weighs colours by transparency
    coarse = np.round(small / 255 * (SHADES - 1)) * (255 / (SHADES - 1))
    return np.where(coarse[..., 3:] > 0, coarse, 0).round().astype(np.uint8)


def draw(font_file: Path, names: Path, folder: Path) -> int:
    """Writes pictures.png and names.json to `folder` and returns how many pictures there are.

    Raises ValueError where the list or the font lacks one of the names that the organism is shown.
    """
    from PIL import Image, ImageFont

    font = ImageFont.truetype(str(font_file), BITMAP)
    found: dict[str, np.ndarray] = {}
    for e in listed(names):
        if e.group in GROUPS and e.subgroup not in ("time", "sky & weather") and re.fullmatch(r"[a-z]+( [a-z]+){0,2}", e.caption):
            found.setdefault(e.caption, painted(e.text, font))
    for e in listed(names):  # the few of the organism that the groups above leave out
        if e.caption in (*TEMPLATES, *REGULAR, *(n for row in COPIES.values() for n in row)):
            found.setdefault(e.caption, painted(e.text, font))
    wanted = {*TEMPLATES, *REGULAR, *(n for row in COPIES.values() for n in row)}
    if missing := sorted(wanted - set(found)):
        raise ValueError(f"no picture of {', '.join(missing)}")
    cells = list(found.values())
    cells += [np.zeros_like(cells[0])] * (-len(cells) % ACROSS)
    sheet = np.stack(cells).reshape(-1, ACROSS, SIDE, SIDE, 4).swapaxes(1, 2).reshape(-1, ACROSS * SIDE, 4)
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(folder / "pictures.png", optimize=True)
    lines = ",\n".join("  " + ", ".join(json.dumps(n) for n in list(found)[k : k + ACROSS]) for k in range(0, len(found), ACROSS))
    (folder / "names.json").write_text(f'{{\n "names": [\n{lines}\n ]\n}}\n', encoding="utf-8")
    return len(found)
