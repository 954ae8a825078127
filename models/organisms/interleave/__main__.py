"""`python -m models.organisms.interleave grow NAME ...` regrows the bundled nets; `draw` makes their pictures again from a font and a list of names."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from models.organisms.interleave.pictures import FILE
from models.organisms.interleave.recipe import RECIPES


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m models.organisms.interleave", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="the nets that can be grown")
    grower = commands.add_parser("grow", help="grow a net, on one thread")
    grower.add_argument("name", choices=RECIPES)
    grower.add_argument("--out", type=Path, help="folder to write; the default is models/weights/NAME")
    drawer = commands.add_parser("draw", help="write assets/emoji/pictures.json")
    drawer.add_argument("--font", type=Path, required=True, help="NotoColorEmoji.ttf, as in Debian's fonts-noto-color-emoji 2.042")
    drawer.add_argument("--names", type=Path, required=True, help="emoji-test.txt of Unicode 15.0, as in Debian's unicode-data 15.0.0")
    drawer.add_argument("--out", type=Path, default=FILE)
    args = parser.parse_args()
    if args.command == "list":
        sys.stdout.writelines(f"{r.name:18} {r.about}\n" for r in RECIPES.values())
    elif args.command == "draw":
        from models.organisms.interleave.draw import draw

        sys.stdout.write(f"{draw(args.font, args.names, args.out)} pictures in {args.out}\n")
    else:
        _grow(args.name, args.out)
    return 0


def _grow(name: str, out: Path | None) -> None:
    import torch
    from tqdm import tqdm

    from models.organisms.interleave.grow import WEIGHTS, grow

    torch.set_num_threads(1)
    recipe = RECIPES[name]
    with tqdm(unit="step", mininterval=5) as bar:
        def show(net: str, step: int, seen: object) -> None:
            bar.total, bar.n = recipe.steps, step + 1
            bar.set_description(net, refresh=False)
            bar.update(0)

        grow(recipe, out or WEIGHTS / name, show)


if __name__ == "__main__":
    sys.exit(main())
