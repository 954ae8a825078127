"""From a colour font and Unicode's list of names to small grids of palette colours: `python -m models.organisms.interleave draw`.

Run once; what it wrote is assets/emoji/pictures.json, which all else reads.
"""

from __future__ import annotations

import json
import random
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.organisms.interleave.pictures import COLOURS, SIDE

BITMAP = 109  # the one size at which Noto Color Emoji has its bitmaps
TONES = ("light", "medium light", "medium", "medium dark", "dark")
SINGLES = {"Smileys & Emotion": 24, "Animals & Nature": 62, "Food & Drink": 52, "Travel & Places": 22, "Activities": 12, "Objects": 36, "Symbols": 12}
HANDS, FLAGS = 16, 26  # hand signs, each in five tones of skin; flags of countries
NEW = 24  # held out beside one tone of every hand: pictures whose every word stands in trained captions


@dataclass(frozen=True)
class Named:
    """An emoji as Unicode lists it. `caption` is its name in small letters, without signs."""

    text: str
    caption: str
    group: str
    subgroup: str


def listed(path: Path) -> list[Named]:
    """The fully qualified emoji of Unicode's emoji-test.txt, in its order."""
    found, group, subgroup = [], "", ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("# group:"):
            group = line.removeprefix("# group:").strip()
        elif line.startswith("# subgroup:"):
            subgroup = line.removeprefix("# subgroup:").strip()
        elif match := re.match(r"([0-9A-F ]+?) *; fully-qualified +# \S+ E[\d.]+ (.+)", line):
            caption = match[2].lower().replace("skin tone", "").replace("’", "").replace("-", " ").replace(":", " ")
            found.append(Named("".join(chr(int(c, 16)) for c in match[1].split()), " ".join(caption.split()), group, subgroup))
    return found


def chosen(everything: list[Named], rng: random.Random) -> list[tuple[Named, str]]:
    """Emoji with their split: "train", "tone" (a hand in a tone never seen with it) or "new" (another picture of known words)."""
    plain = [e for e in everything if re.fullmatch(r"[a-z]+( [a-z]+){0,2}", e.caption)]
    hands = defaultdict(list)
    for e in everything:
        if e.subgroup.startswith("hand") and (tone := next((t for t in sorted(TONES, key=len, reverse=True) if e.caption.endswith(f" {t}")), "")):
            hands[e.caption.removesuffix(f" {tone}")].append(e)
    signs = sorted(name for name, found in hands.items() if len(found) == len(TONES) and re.fullmatch(r"[a-z ]+", name))
    picked: list[tuple[Named, str]] = []
    for i, sign in enumerate(rng.sample(signs, HANDS)):
        picked += [(e, "tone" if k == i % len(TONES) else "train") for k, e in enumerate(hands[sign])]
    flags = [e for e in plain if e.subgroup == "country-flag"]
    picked += [(e, "train") for e in rng.sample(flags, FLAGS)]
    for group, count in SINGLES.items():
        pool = [e for e in plain if e.group == group and e.subgroup != "time"]
        picked += [(e, "train") for e in rng.sample(pool, count)]
    known = {w for e, split in picked if split == "train" for w in e.caption.split()}
    taken = {e.caption for e, _ in picked}
    fresh = [e for e in plain if e.group in SINGLES and e.caption not in taken and set(e.caption.split()) <= known]
    return picked + [(e, "new") for e in rng.sample(fresh, min(NEW, len(fresh)))]


def painted(text: str, font: object) -> np.ndarray:
    """(SIDE, SIDE, 3) mean colours of the emoji on white, 0 to 255."""
    from PIL import Image, ImageDraw

    image = Image.new("RGBA", (136, 128), "white")
    ImageDraw.Draw(image).text((0, 0), text, font=font, embedded_color=True)  # type: ignore[arg-type]
    return np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX), float)


def palette(colours: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(COLOURS, 3): k-means of the rows of `colours`, from centres drawn far apart (k-means++), 40 rounds; sorted from dark to bright."""
    centres = colours[rng.integers(len(colours))][None]
    while len(centres) < COLOURS:
        far = ((colours[:, None] - centres) ** 2).sum(-1).min(1)
        centres = np.concatenate([centres, colours[rng.choice(len(colours), p=far / far.sum())][None]])
    for _ in range(40):
        near = nearest(colours, centres)
        centres = np.stack([colours[near == k].mean(0) if (near == k).any() else centres[k] for k in range(COLOURS)])
    return centres[np.argsort(centres.sum(1))].round()


def nearest(colours: np.ndarray, centres: np.ndarray) -> np.ndarray:
    return ((colours[:, None] - centres) ** 2).sum(-1).argmin(1)


def draw(font_file: Path, names: Path, out: Path, seed: int = 0) -> int:
    """Writes the pictures to `out` and returns how many there are. Two that fall on one grid are kept once."""
    from PIL import ImageFont

    font = ImageFont.truetype(str(font_file), BITMAP)
    picked = chosen(listed(names), random.Random(seed))
    grids = np.stack([painted(e.text, font) for e, _ in picked]).reshape(len(picked), SIDE * SIDE, 3)
    train = np.array([split == "train" for _, split in picked])
    centres = palette(grids[train].reshape(-1, 3), np.random.default_rng(seed))
    rows, seen = [], set()
    for (e, split), grid in zip(picked, grids, strict=True):
        cells = nearest(grid, centres).tolist()
        if tuple(cells) not in seen:
            seen.add(tuple(cells))
            rows.append({"emoji": e.text, "caption": e.caption, "group": e.subgroup if e.group == "Flags" else e.group, "split": split, "cells": cells})
    lines = ",\n".join(f"  {json.dumps(row, ensure_ascii=False)}" for row in rows)
    colours = json.dumps([[int(c) for c in centre] for centre in centres])
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(f'{{\n "palette": {colours},\n "pictures": [\n{lines}\n ]\n}}\n', encoding="utf-8")
    return len(rows)
