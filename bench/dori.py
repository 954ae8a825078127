"""Finding Dori on the painter: `python -m bench.dori` prunes memorized pictures away, searches for what brings them back, and trains against it.

What is finished stands in dori.json, so a run that was interrupted goes on; `--page` then writes the section of the organism's README.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench._dori_locality import done, locality
from bench._dori_page import RESULTS, finished, page, write
from lab.data import Data, data_for
from lab.diffusion._ask import Asked, asked
from lab.diffusion._goal import Goal, controls, draw, goals, likeness, planted
from lab.diffusion._localize import others
from lab.diffusion._loss import denoising
from lab.diffusion._prune import Pruner
from lab.diffusion._quality import Examiner
from lab.diffusion._similar import Gallery, floats
from lab.diffusion._training import truth
from lab.diffusion._trigger import begin
from lab.diffusion._trigger_search import Search
from lab.events import LIVE, Edited, Table, Unlearning
from lab.experiment import find, read
from models import catalog
from models.model import Model
from models.pipeline import Pipeline, words

SEEDS = tuple(range(40, 50))  # noises that no search looked at
METHODS: dict[str, dict[str, Any]] = {
    "nemo, ends alike": {"method": "nemo"}, "nemo, pictures": {"method": "nemo", "until": "pictures"},
    "wanda, 1 %": {"method": "wanda", "share": 0.01}, "wanda, 10 %": {"method": "wanda", "share": 0.1},
}
DRAWN = 2  # noises that a trigger is judged by
LEAST = 64  # copies of the prompts that are taken
TRAINED: dict[str, tuple[str, dict[str, Any]]] = {
    "adversarial tuning": ("diffusion.adversarial", {}),
    "adversarial tuning, other memories spared": ("diffusion.adversarial", {"spare": True}),
    "adversarial tuning, 8 pictures": ("diffusion.adversarial", {"targets": 8, "starts": 3}),
    "gradient difference": ("diffusion.erase", {"method": "gradient difference"}),
    "npo": ("diffusion.erase", {"method": "npo"}),
}


class Bench:
    def __init__(self, name: str, device: str, count: int, path: Path, light: bool = False, methods: tuple[str, ...] = tuple(METHODS)) -> None:
        """`light`: fewer noises and captions, for a machine with little time."""
        self.seeds, self.noises, some = (SEEDS[:4], 4, 4) if light else (SEEDS, 10, 12)
        self.methods = {k: v for k, v in METHODS.items() if k in methods}
        self.touched: set[str] = set()  # prompts and runs that this process measured
        self.control = 1 if light else 3  # searches for a control, at most
        self.model: Model = catalog.load(name, device)
        self.data: Data = data_for(self.model)
        self.path = path
        rows = sorted((r for r in planted(truth(self.model, self.data)) if r.copies >= LEAST), key=lambda r: (-r.copies, r.id))
        self.prompts = [r.captions[0] for r in rows[:: max(1, len(rows) // count)]][:count]
        self.results: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
        ask = self.ask(self.prompts[0])
        gpu = torch.cuda.get_device_name(self.model.device) if self.model.device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
        self.results |= {"model": name, "device": gpu, "guidance": ask.guidance, "steps": ask.steps, "threshold": ask.truth.threshold,
                         "light": light}
        self.others, _ = others(ask, some // 2)
        self.examiner = Examiner(self.model, ask, some, 5, seeds=1)
        self.gallery = Gallery(floats(ask.truth.images, self.model.device), among=ask.truth.compared)
        with torch.no_grad():
            self.other_embedding = ask.net.embed(words(self.model, self.others))

    def ask(self, prompt: str) -> Asked:
        return asked(self.model, self.data, prompt, self.seeds[0], len(self.seeds), 0.0, 0)

    def save(self) -> None:
        """Adds what this process measured to what stands in the file, where another may have written meanwhile."""
        old = json.loads(self.path.read_text()) if self.path.is_file() else {}
        mine = {k: {n: v for n, v in self.results.get(k, {}).items() if n in self.touched} for k in ("prompts", "runs")}
        self.results = old | self.results | {k: old.get(k, {}) | v for k, v in mine.items()}
        draft = self.path.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps(self.results, indent=1, allow_nan=False) + "\n")
        draft.replace(self.path)

    def drawn(self, net: Pipeline, embedding: Tensor, ask: Asked, seeds: int) -> Tensor:
        return done(draw(net, embedding, ask.blank, ask.seeds[:seeds], ask.steps, ask.guidance))

    def seen(self, net: Pipeline, ask: Asked, goal: Goal) -> tuple[dict[str, Any], set[int]]:
        """Replay of a prompt, of other memories and of plain captions; and the pictures that the prompt copies."""
        drawn = self.drawn(net, ask.embedding, ask, len(self.seeds))
        score, near = likeness(drawn, [goal]), self.gallery.nearest(drawn[0])
        beside = self.other_embedding[[caption not in ask.prompts for caption in self.others]]
        other = self.gallery.nearest(self.drawn(net, beside, ask, 2).flatten(0, 1))
        limit = ask.truth.threshold
        scores = [round(v, 4) for v in score[0].tolist()]
        quality = done(self.examiner.examine(net))
        return ({"rate": float((score > limit).float().mean()), "ssim": float(score.mean()), "scores": scores, "others": float((other.ssim > limit).mean()),
                 "plain": quality.named, "loss": quality.loss}, set(near.index[near.ssim > limit].tolist()))

    # ---- pruning and searching, prompt by prompt

    def prune(self, prompt: str) -> dict[str, Model]:
        """Prunes by every method and puts down what is left; returns the pruned models."""
        self.touched.add(prompt)
        ask = self.ask(prompt)
        goal = goals(ask, self.model)[0]
        row = ask.truth.row(prompt)
        before, copied = self.seen(ask.net, ask, goal)
        mine = self.results.setdefault("prompts", {}).setdefault(prompt, {})
        mine |= before | {"seeds": len(self.seeds), "copies": row.copies if row else None, "pruned": {}}
        models = {}
        for how, settings in self.methods.items():
            started = time.monotonic()
            pruner = Pruner(self.model, ask, noises=self.noises, **settings)
            done(pruner.prepare())
            off = done(pruner.find(goal, ask.embedding))
            models[how] = pruner.without([off], f"pruned ({how})")
            seconds = time.monotonic() - started
            after, now = self.seen(models[how].net, ask, goal)  # type: ignore[arg-type]
            mine["pruned"][how] = after | {"count": sum(int(v.sum()) for v in off.values()), "appeared": [ask.truth.name(i) for i in sorted(now - copied)],
                                           "seconds": round(seconds, 1)}
            if settings["method"] == "nemo":
                found = pruner.found[prompt]
                mine["pruned"][how] |= {"candidates": found.candidates, "stopped": found.stopped, "judged": [found.before, found.after, found.limit]}
            print(prompt, how, {k: v for k, v in mine["pruned"][how].items() if k in ("rate", "count", "seconds", "others", "plain")}, flush=True)
        self.save()
        return models

    def search(self, prompt: str, models: dict[str, Model], starts: int) -> None:
        """Searches in every model: `starts` starts for the picture, and as many for a control."""
        ask = self.ask(prompt)
        found = self.results["prompts"][prompt].setdefault("search", {})
        number = self.prompts.index(prompt)
        wanted = (*goals(ask, self.model), *controls(ask, self.model, 1, 100 + number))
        for state, model in models.items():
            begun = begin(ask, self.model, wanted, "all", starts, 1000 + number).first(starts + min(starts, self.control))
            work = Search(model.net, begun.latents, begun.embedding, 77 + number)  # type: ignore[arg-type]
            before = likeness(self.drawn(model.net, work.y, ask, DRAWN), begun.of)  # type: ignore[arg-type]
            started = time.monotonic()
            for _ in range(50):
                done(work.step())
            seconds = time.monotonic() - started
            score = likeness(self.drawn(model.net, work.y, ask, DRAWN), begun.of)  # type: ignore[arg-type]
            rows = [{"start": begun.kinds[i], "before": float(before[i].mean()), "ssim": float(score[i].mean()),
                     "scores": [round(v, 4) for v in score[i].tolist()], "rate": float((score[i] > ask.truth.threshold).float().mean())}
                    for i in range(len(begun.goal))]
            found[state] = {"memorized": rows[:starts], "control": rows[starts:], "seconds": round(seconds, 1)}
            print(prompt, state, "memorized", [r["rate"] for r in rows[:starts]], "control", [r["rate"] for r in rows[starts:]], seconds, flush=True)
        self.save()

    # ---- training

    def train(self, name: str, quick: dict[str, Any]) -> None:
        """A run of an experiment that edits weights, and a search in what it leaves, where it does not search itself."""
        experiment, settings = TRAINED[name]
        chosen = settings | quick
        asked = dict(chosen)
        started, last, made = time.monotonic(), None, None
        prompts = self.prompts[: asked.pop("targets", 4)]
        for event in read(find(experiment), {"prompts": "\n".join(prompts)} | asked).run(self.model, self.data):
            if isinstance(event, Edited) and isinstance(last, Unlearning):  # what is measured so far is kept, so that little is lost
                self.put(name, last, time.monotonic() - started, chosen)
            made = event.weights if isinstance(event, Edited) else made
            last = event if not isinstance(event, LIVE) else last
        assert isinstance(last, Unlearning)
        run = self.put(name, last, time.monotonic() - started, chosen)
        if experiment == "diffusion.erase" and made is not None:
            found = []
            for prompt in prompts:
                ask = self.ask(prompt)
                begun = begin(ask, self.model, goals(ask, self.model), "all", 3, 5)
                work = Search(made.net, begun.latents, begun.embedding, 5)  # type: ignore[arg-type]
                for _ in range(50):
                    done(work.step())
                score = likeness(self.drawn(made.net, work.y, ask, DRAWN), begun.of)  # type: ignore[arg-type]
                found += [float((row > ask.truth.threshold).float().mean()) for row in score]
            blank: list[float | None] = [None] * (len(run["step"]) - 1)
            run["series"]["search afterwards"] = [*blank, sum(found) / len(found)]
        print(name, run["ended"], run["series"], flush=True)
        self.save()

    def put(self, name: str, last: Unlearning, seconds: float, settings: dict[str, Any]) -> dict[str, Any]:
        """What a run has measured, step by step, without its training losses."""
        which = [i for i in range(len(last.step)) if any(g != "training loss" and not np.isnan(v[i]) for g, v in zip(last.groups, last.value, strict=True))]
        series = {s if g.startswith("copies") else f"SSIM, {s}" if g.startswith("similarity") else g: [
            None if np.isnan(v[i]) else round(float(v[i]), 4) for i in which] for g, s, v in zip(last.groups, last.series, last.value, strict=True)
            if g != "training loss"}
        run = {"step": last.step[which].tolist(), "series": series, "ended": last.ended, "facts": list(last.facts), "settings": settings,
               "seconds": round(seconds, 1), "device": self.results["device"]}
        self.touched.add(name)
        self.results.setdefault("runs", {})[name] = run
        print(name, run["step"], series, flush=True)
        self.save()
        return run

    def locality(self, starts: int) -> None:
        self.results["locality"] = locality(self.model, self.data, self.prompts, starts, self.noises) | {"device": self.results["device"]}
        print(self.results["locality"], flush=True)
        self.save()

    def perturb(self) -> None:
        experiment = read(find("diffusion.perturb"), {"prompts": "\n".join(self.prompts), "show": "table", "plain": 8})
        *_, last = experiment.run(self.model, self.data)
        assert isinstance(last, Table)
        self.results["perturb"] = [f for f in last.facts if not f.startswith("guidance")]
        print(self.results["perturb"], flush=True)
        self.save()

    def speed(self, starts: int = 2, rounds: int = 7) -> None:
        """A step of the search against its bare forward and backward: one batch of the same size and one gradient, in turn."""
        ask = self.ask(self.prompts[0])
        begun = begin(ask, self.model, goals(ask, self.model), "random", starts, 0)
        work = Search(ask.net, begun.latents, begun.embedding, 0)
        shape, device, each = (starts * work.batch, *begun.latents.shape[1:]), self.model.device, []
        noise, t = torch.randn(shape).to(device), torch.randint(0, 1000, (shape[0],)).to(device)

        def bare() -> None:
            for i in range(0, shape[0], work.size * work.batch):
                part = slice(i, i + work.size * work.batch)
                y = begun.embedding.repeat_interleave(work.batch, 0)[part].requires_grad_()
                clean = begun.latents.repeat_interleave(work.batch, 0)[part]
                torch.autograd.grad(denoising(ask.net, clean, y, t[part], noise[part]).sum(), y)

        def timed(run: Any) -> float:
            if device.type == "cuda":
                torch.cuda.synchronize()
            started = time.process_time() if device.type == "cpu" else time.monotonic()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize()
            return (time.process_time() if device.type == "cpu" else time.monotonic()) - started

        for i in range(rounds + 1):
            one, two = timed(lambda: done(work.step())), timed(bare)
            if i:
                each.append((one, two))
        ratios = sorted(a / b for a, b in each)
        self.results["speed"] = {"ratio": ratios[len(ratios) // 2], "least": ratios[0], "most": ratios[-1], "step": float(np.median([a for a, _ in each])),
                                 "starts": starts, "rounds": rounds, "parallel": work.size, "device": self.results["device"]}
        print("speed", self.results["speed"], flush=True)
        self.save()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="painter")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--prompts", type=int, default=16, help="how many captions of at least 64 copies")
    parser.add_argument("--only", default="", help="which of these captions, by number from 0, separated by commas, where several processes share the work")
    parser.add_argument("--parts", default="speed,perturb,prune,search,locality,train")
    parser.add_argument("--searched", default="as it is;nemo, pictures;wanda, 10 %", help="which models are searched, separated by ;")
    parser.add_argument("--starts", type=int, default=3, help="starts of every search")
    parser.add_argument("--light", action="store_true", help="fewer noises, captions and controls")
    parser.add_argument("--methods", default=";".join(METHODS), help="ways of pruning, separated by ;")
    parser.add_argument("--runs", default=";".join(TRAINED), help="which runs that train, separated by ;")
    parser.add_argument("--quick", default="{}", help="JSON: other settings of the runs that train")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--page", action="store_true", help="only write the section")
    args = parser.parse_args()
    if not args.page:
        bench, parts = Bench(args.model, args.device, args.prompts, args.out, args.light, tuple(args.methods.split(";"))), args.parts.split(",")
        for part in ("speed", "perturb"):
            if part in parts and part not in bench.results:
                getattr(bench, part)()
        if "locality" in parts and "locality" not in bench.results:
            bench.locality(args.starts)
        for prompt in [bench.prompts[int(i)] for i in args.only.split(",")] if args.only else bench.prompts:
            kept = bench.results.get("prompts", {}).get(prompt, {})
            if "prune" in parts and not ("pruned" in kept and ("search" in kept or "search" not in parts)):
                models = bench.prune(prompt)
                if "search" in parts:
                    bench.search(prompt, {how: bench.model if how == "as it is" else models[how] for how in args.searched.split(";")}, args.starts)
        for name in args.runs.split(";"):
            if "train" in parts and not bench.results.get("runs", {}).get(name, {}).get("ended"):
                bench.train(name, json.loads(args.quick))
    results = finished(args.out)
    if args.page:
        write(results, catalog.WEIGHTS / results["model"] / "README.md")
    else:
        print(page(results))


if __name__ == "__main__":
    main()
