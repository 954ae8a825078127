"""`python -m models.organisms.painter grow NAME` regrows a bundled model of pictures; `all` grows the family; `draw` makes their emoji again from a font."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

from models.organisms.painter.recipe import RECIPES, SIZES

WEIGHTS = Path(__file__).parents[2] / "weights"


def main() -> int:
    args = _parser().parse_args()
    if args.command == "draw":
        from models.organisms.painter.draw import draw

        _say(f"{draw(args.font, args.names, args.out)} pictures in {args.out}")
        return 0
    if args.command == "all":
        from models.organisms.painter.everything import everything

        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that its children end with it
        everything(args.device, args.size or _fitting(args.device), args.minutes, args.out, args.compile, _say)
        return 0
    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.set_num_threads(args.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True
    if args.command == "look":
        from models.organisms.painter.look import look

        for guidance, row in look(args.folder, args.device, SIZES[args.size or _fitting(args.device)].variants).items():
            _say(f"{guidance}: {row}")
    else:
        _grow(args)
    return 0


def _grow(args: argparse.Namespace) -> None:
    from models.organisms.painter import parts
    from models.organisms.painter.budget import Budget
    from models.organisms.painter.embedder import FILES
    from models.organisms.painter.everything import agreed, wait_for
    from models.organisms.painter.grow import grow, grow_eyes, grow_vae
    from models.organisms.painter.look import look

    size = SIZES[args.size or _fitting(args.device)]
    out = args.out or WEIGHTS / args.name
    out.mkdir(parents=True, exist_ok=True)
    parts.denoiser(RECIPES["painter"], SIZES["tiny"]), parts.vae(SIZES["tiny"]), parts.text(SIZES["tiny"])  # importing takes seconds, which do not count
    if args.command in ("vae", "eyes"):
        make: Any = grow_vae if args.command == "vae" else grow_eyes
        make(size, Budget(args.steps, args.seconds), out, args.device, _show)
        (out / f"{args.command}.done").touch()
        return
    seconds = 60 * args.minutes if args.minutes else args.seconds
    if args.shared is None:
        for make, share in ((grow_vae, 0.12), (grow_eyes, 0.12)):
            make(size, Budget(args.steps, share * seconds if seconds else None), out, args.device, _show)

    def ready() -> Budget:
        if args.shared is None:
            return Budget(args.steps, 0.76 * seconds if seconds else None)
        wait_for(args.shared / "vae.done")
        shutil.copytree(args.shared / "vae", out / "vae", dirs_exist_ok=True)
        return Budget(args.steps, max(5.0, args.finish - time.time()) if args.finish else seconds)

    folder, *names = args.pace or (None,)
    agree = (lambda pace: agreed(Path(folder), args.name, tuple(names), pace)) if folder else (lambda pace: pace)
    grow(RECIPES[args.name], size, ready, out, args.device, _show, compiled=args.compile, agree=agree)
    if args.shared is not None:
        wait_for(args.shared / "eyes.done")
        for file in FILES.values():
            shutil.copy(args.shared / file, out / file)
    much: dict[str, Any] = {} if size is SIZES["gpu"] else {"guidances": (1.5,), "seeds": 1}
    for guidance, row in look(out, args.device, size.variants, **much).items():
        _say(f"{guidance}: {row}")


def _fitting(device: str) -> str:
    return "cpu" if device == "cpu" else "gpu"


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


LAST: dict[str, float] = {}


def _show(what: str, done: int, share: float, value: float) -> None:
    """At most a line every five seconds."""
    if time.monotonic() - LAST.get(what, -10.0) > 5:
        LAST[what] = time.monotonic()
        _say(f"{what}: step {done}, {share:.0%}, {value:.4f}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m models.organisms.painter", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    drawer = commands.add_parser("draw", help="write assets/painter/")
    drawer.add_argument("--font", type=Path, required=True, help="NotoColorEmoji.ttf, as in Debian's fonts-noto-color-emoji 2.042")
    drawer.add_argument("--names", type=Path, required=True, help="emoji-test.txt of Unicode 15.0, as in Debian's unicode-data 15.0.0")
    drawer.add_argument("--out", type=Path, default=WEIGHTS.parents[1] / "assets" / "painter")
    runs = {"all": "grow all models and pack them", "grow": "grow one model", "vae": "grow the autoencoder alone", "eyes": "grow copy detector and namer alone",
            "look": "a first look at a grown folder"}
    for command, words in runs.items():
        run = commands.add_parser(command, help=words)
        run.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
        run.add_argument("--size", choices=SIZES, help="how much of it; the default fits the device")
        run.add_argument("--threads", type=int, default=2 if command == "grow" else 1)
        if command == "look":
            run.add_argument("folder", type=Path)
            continue
        run.add_argument("--compile", action="store_true", help="torch.compile the denoiser")
        run.add_argument("--out", type=Path, required=command != "grow", help="folder to write; of grow, the default is models/weights/NAME")
        if command == "all":
            run.add_argument("--minutes", type=float, required=True)
            continue
        budget = run.add_mutually_exclusive_group(required=True)
        budget.add_argument("--steps", type=int)
        budget.add_argument("--seconds", type=float)
        if command == "grow":
            run.add_argument("name", choices=RECIPES)
            budget.add_argument("--minutes", type=float)
            budget.add_argument("--finish", type=float, help="when to end, in seconds since 1970")
            run.add_argument("--shared", type=Path, help="folder where vae and eyes come to stand")
            run.add_argument("--pace", nargs="+", help="a folder, and the names that do as many steps as each other")
    return parser


if __name__ == "__main__":
    sys.exit(main())
