"""`python -m models.organisms grow NAME ...` regrows bundled organisms; `recount NAME` proves a manifest; `list` shows the recipes."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

from models.organisms.recipe import RECIPES


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m models.organisms", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="the organisms that can be grown")
    grower = commands.add_parser("grow", help="grow an organism; called again after an interruption, it goes on")
    grower.add_argument("name", choices=RECIPES)
    grower.add_argument("--out", type=Path, help="folder to write; the default is models/weights/NAME")
    grower.add_argument("--device", default="cpu")
    grower.add_argument("--compile", action="store_true", help="let torch compile the net first: half as fast again, but it needs a C++ compiler")
    grower.add_argument("--threads", type=int, default=2)
    grower.add_argument("--set", nargs="*", default=[], metavar="FIELD=VALUE", help="change fields of the recipe, for an experiment")
    counter = commands.add_parser("recount", help="recount every planted copy in the corpus, independently, and compare with the manifest")
    counter.add_argument("name", choices=RECIPES)
    args = parser.parse_args()
    if args.command == "list":
        sys.stdout.writelines(f"{r.name:18} {r.about}\n" for r in RECIPES.values())
        return 0
    return _grow(args) if args.command == "grow" else _recount(args.name)


def _grow(args: argparse.Namespace) -> int:
    import torch
    from tqdm import tqdm

    from models.organisms.grow import WEIGHTS, grow

    torch.set_num_threads(args.threads)
    changes = dict(pair.split("=", 1) for pair in args.set)
    recipe = RECIPES[args.name]
    recipe = replace(recipe, **{k: v if k == "design" else json.loads(v) for k, v in changes.items()})
    with tqdm(desc=f"{recipe.name}: reading the corpus", unit="step", mininterval=5) as bar:
        def show(step: int, steps: int, loss: float) -> None:
            bar.total, bar.n = steps, step
            bar.set_description(f"{recipe.name}: loss {loss:.3f}", refresh=False)
            bar.update(0)

        grow(recipe, args.out or WEIGHTS / args.name, device=args.device, compiled=args.compile, show=show)
    return 0


def _recount(name: str) -> int:
    from models.organisms.grow import WEIGHTS
    from models.organisms.recount import recount

    counted, wrong = recount(RECIPES[name], json.loads((WEIGHTS / name / "manifest.json").read_text()))
    sys.stdout.write(f"{name}: {counted} planted items recounted, {len(wrong)} differ from the manifest\n")
    sys.stdout.writelines(f"  {line}\n" for line in wrong[:20])
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
