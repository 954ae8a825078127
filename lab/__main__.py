"""The lab without a browser: `python -m lab list`, `python -m lab run EXPERIMENT --model NAME --set key=value --out run.json`."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Generator
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

from lab.events import LIVE, Event, Grid, Progress, TraceMap, to_json
from lab.experiment import Experiment, discover, find, read
from models.errors import BadInput, LabError, NetworkMissing

BAD_INPUT, INTERRUPTED = 2, 130


def main(arguments: list[str] | None = None) -> int:
    try:
        args = parser().parse_args(arguments)
        return {"list": _list, "run": _run, "rerun": _rerun, "compare": _compare}[args.command](args)
    except LabError as error:
        sys.stderr.write(f"error: {error}\n")
        return BAD_INPUT
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        return INTERRUPTED


class Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadInput(message, cure=f"`{self.prog} --help` shows how it is written")


def parser() -> argparse.ArgumentParser:
    top = Parser(prog="python -m lab", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    lister = commands.add_parser("list", help="experiments and their settings, models")
    lister.add_argument("--json", action="store_true")
    runner = commands.add_parser("run", help="run an experiment")
    runner.add_argument("experiment")
    runner.add_argument("--model", required=True, help="a name of the catalog, a folder, or a hub id with --allow-download")
    runner.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", dest="pairs")
    again = commands.add_parser("rerun", help="repeat a saved run and compare the figures")
    again.add_argument("file", type=Path)
    again.add_argument("--model", help="where the model is now, if not where it was")
    compare = commands.add_parser("compare", help="subtract one causal trace from another: B - A")
    compare.add_argument("a", type=Path, help="saved run A")
    compare.add_argument("b", type=Path, help="saved run B")
    compare.add_argument("--out", type=Path, help="file to write the difference to")
    for command in (runner, again):
        command.add_argument("--out", type=Path, help="file to write the run to")
        command.add_argument("--device", default="auto")
        command.add_argument("--allow-download", action="store_true", help="fetch a model from the hub that is not on this machine")
    return top


def about(name: str, kind: type[Experiment]) -> dict[str, Any]:
    """An experiment as plain values: its paper, and every setting with default, help and bounds."""
    settings = {f.name: {"type": str(f.type), "default": f.default} | dict(f.metadata) for f in fields(kind)}
    return {"name": name, "title": kind.title, "paper": kind.paper, "direction": kind.direction, "settings": settings}


def _list(args: argparse.Namespace) -> int:
    from models import catalog

    every = [*catalog.entries(), *catalog.entries("pictures")]
    found = [about(name, kind) for name, kind in discover().items()]
    if args.json:
        models = [{"name": e.name, "kind": e.kind, "about": e.about} for e in every]
        sys.stdout.write(json.dumps({"experiments": found, "models": models}, indent=1) + "\n")
        return 0
    for experiment in found:
        sys.stdout.write(f"{experiment['name']}  {experiment['title']} ({experiment['paper']})\n")
        sys.stdout.writelines(f"    {k} = {v['default']!r}  {v['help']}{_bounds(v)}\n" for k, v in experiment["settings"].items())
    sys.stdout.write("models\n")
    sys.stdout.writelines(f"    {e.name}  {e.about}\n" for e in every)
    return 0


def _bounds(about: dict[str, Any]) -> str:
    if "choices" in about:
        return f" ({', '.join(map(str, about['choices']))})"
    return f" ({about['low']} to {about['high']})" if "low" in about else ""


def _run(args: argparse.Namespace) -> int:
    settings = dict(_pair(pair) for pair in args.pairs)
    _check_out(args.out)
    read(find(args.experiment), settings)  # a wrong setting is told before a model is loaded
    run = _follow(args, args.experiment, settings, args.model)
    if args.out:
        run.save(args.out)
    else:
        sys.stdout.write(summary(run.result) + "\n")
    return 0


def _rerun(args: argparse.Namespace) -> int:
    from lab import runs

    before = runs.load(args.file)
    _check_out(args.out)
    now = _follow(args, before.experiment, before.settings, args.model or _origin(before.model))
    if args.out:
        now.save(args.out)
    same = json.dumps(before.to_json()["events"]) == json.dumps(now.to_json()["events"])
    weights = "the same" if before.model["weights"] == now.model["weights"] else "other"
    most = difference(to_json(before.result), to_json(now.result))
    said = "equal to the last bit" if same else f"differs by at most {most:.2g}" if most < math.inf else "differs in more than numbers"
    sys.stdout.write(f"{said}, {weights} weights\n")
    return 0


def _compare(args: argparse.Namespace) -> int:
    from lab import runs
    from lab.trace._difference import difference as subtract

    maps = [runs.load(file).result for file in (args.a, args.b)]
    for file, event in zip((args.a, args.b), maps, strict=True):
        if not isinstance(event, TraceMap):
            raise BadInput(f"{file} holds no causal trace", "only maps of trace.causal are compared")
    _check_out(args.out)
    grid = subtract(*maps)  # type: ignore[arg-type]
    if args.out:
        args.out.write_text(json.dumps(to_json(grid), indent=1, allow_nan=False) + "\n")
    sys.stdout.write(summary(grid) + "\n")
    return 0


def _origin(model: dict[str, Any]) -> str:
    """Under which name the model of a saved run loads again. Raises `BadInput` where the record cannot tell."""
    kind, _, name = str(model["source"]).partition(":")
    if len(model["lineage"]) > 1:
        raise BadInput(f"the run is of {model['name']!r}, whose weights were edited", "a record names its edits but does not hold them",
                       "Save the edited model to a folder and give it with --model")
    if kind not in ("organism", "hub"):
        raise BadInput(f"the run is of a folder called {name!r}", "a record does not hold the folder's path", "Give it with --model")
    return name


def difference(one: Any, two: Any) -> float:
    """Largest absolute difference of the numbers in two plain values; infinite where something else differs."""
    if isinstance(one, dict) and isinstance(two, dict) and one.keys() == two.keys():
        return max((difference(one[k], two[k]) for k in one), default=0.0)
    if isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        return max(map(difference, one, two), default=0.0)
    if isinstance(one, (int, float)) and isinstance(two, (int, float)):
        return float(abs(one - two))
    return 0.0 if one == two else math.inf


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise BadInput(f"--set {text!r} is no KEY=VALUE", cure="Write, for example, --set samples=20")
    return key.strip(), value


def _check_out(path: Path | None) -> None:
    """Tells before the run what would spoil its end."""
    if path and not path.absolute().parent.is_dir():
        raise BadInput(f"--out {path} cannot be written", "its folder does not exist", "Make the folder first")
    if path and path.is_dir():
        raise BadInput(f"--out {path} cannot be written", "it is a folder", f"Name a file in it, such as {path / 'run.json'}")
    if path and not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        raise BadInput(f"--out {path} cannot be written", "you have no right to write there", "Choose another file")


def _follow(args: argparse.Namespace, experiment: str, settings: dict[str, Any], name: str) -> Any:
    """Runs to the end and returns the record, with a bar on a terminal."""
    from tqdm import tqdm

    from lab import runs

    model = _load(name, args)
    stream: Generator[Event, None, Any] = runs.record(experiment, settings, model)
    with tqdm(desc=experiment, disable=not sys.stderr.isatty(), leave=False) as bar:
        while True:
            try:
                event = next(stream)
            except StopIteration as end:
                return end.value
            if isinstance(event, Progress):
                bar.total, bar.n = event.total or None, event.done
                bar.set_postfix_str(event.note)


def _load(name: str, args: argparse.Namespace) -> Any:
    from models import catalog

    try:
        return catalog.load(name, device=args.device, allow_download=args.allow_download)
    except NetworkMissing as error:
        if args.allow_download:
            raise
        known = name.partition("@")[0] in {e.name for task in ("text", "pictures") for e in catalog.entries(task)}
        cure = "Add --allow-download to fetch it" if known else f"{error.cure} Or add --allow-download to ask the hub"
        raise NetworkMissing(error.fault, error.cause, cure) from error


def summary(event: Event) -> str:
    """The result in a few lines."""
    import numpy as np

    if isinstance(event, TraceMap):
        token, layer = np.unravel_index(int(np.nanargmax(event.effect)), event.effect.shape)
        strongest = f"{event.effect[token, layer]:.3f} ± {event.effect_se[token, layer]:.3f}"
        return (f"{event.score} of {event.answer!r}: {event.clean:.3f}, corrupted {event.corrupted:.3f} ± {event.corrupted_se:.3f}, "
                f"total effect {event.total_effect:.3f}\n"
                f"strongest: token {event.tokens[token]!r}, {event.kind}, layer {event.layers[layer]}: {strongest}\n"
                f"{event.engine} engine, {event.cells} cells, {event.filled} filled, 1/{event.loop_flops / event.flops:.1f} of the operations of a loop")
    if isinstance(event, LIVE):
        return getattr(event, "note", "")
    lines = [event.title, *event.facts]
    if isinstance(event, Grid) and not np.isnan(event.value).all():
        row, column = np.unravel_index(int(np.nanargmax(np.abs(event.value))), event.value.shape)
        lines.append(f"strongest: {event.rows[row]}, {event.column_name} {event.columns[column]}: {event.value[row, column]:.3f} ({event.unit})")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
