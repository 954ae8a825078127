"""`python -m models.memory grow NAME ...|--all` grows memories on recall of pairs and passkeys; `list` shows them."""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

from models.memory.designs import DESIGNS, design
from models.memory.grown import WEIGHTS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m models.memory", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="the memories that can be grown")
    grower = commands.add_parser("grow", help="grow memories; called again after an interruption, it goes on with what is missing")
    grower.add_argument("names", nargs="*", metavar="NAME")
    grower.add_argument("--all", action="store_true", help="every memory")
    grower.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    grower.add_argument("--workers", type=int, default=1, help="processes, each with one thread")
    grower.add_argument("--device", default="cpu", help="cpu or cuda")
    grower.add_argument("--out", type=Path, default=WEIGHTS)
    grower.add_argument("--steps", type=int, help="fewer steps than the recipe's, for a trial")
    args = parser.parse_args()
    if args.command == "list":
        sys.stdout.writelines(f"{name:22} {d.title}: {d.about} ({d.paper})\n" for name, d in DESIGNS.items())
        return 0
    return grow(args)


def grow(args: argparse.Namespace) -> int:
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # for the workers, before they import torch
    from models.memory.grow import grow_all
    from models.memory.train import Recipe

    names = list(DESIGNS) if args.all else args.names
    for name in names:
        design(name)
    if not names:
        sys.stderr.write("Which? Give names, or --all\n")
        return 2
    recipe = replace(Recipe(), steps=args.steps) if args.steps else Recipe()
    started = time.perf_counter()
    for found in grow_all(names, args.seeds, args.out, recipe, args.workers, args.device):
        passed, net = time.perf_counter() - started, f"{found['name']}-{found['seed']}"
        sys.stderr.write(f"{passed:6.0f} s  {net}: right {found['right'][-1]:.3f}, {found['cpu seconds']} CPU-s\n")
        sys.stderr.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
