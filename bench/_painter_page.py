"""The page of the painter's figures, and two strips of pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bench._painter_cells import GUIDANCES, MANY, ORACLE_AT, THINNER, curve, group, known, near, planted, regular
from bench._painter_draws import drawn
from bench._painter_rules import CLOSE, ENOUGH, STEP
from lab.diffusion._similar import bytes_of, floats
from models import catalog
from models.model import Model
from models.organisms.painter.names import TEMPLATES
from models.organisms.painter.recipe import STEPS
from models.pipeline import pictures

if TYPE_CHECKING:
    from bench.painter import Found

GROUPS = ("1", "4", "16", "64", "256", "template")
BIG = 2  # pixels of the strips a pixel of a picture
LOOK = ("teapot", "sloth", "pretzel", "candle", "roller coaster", "sushi", "tractor", "pancakes", "llama", "violin", "magnet", "slot machine", "dragon",
        "mosque", "burrito", *(f"{n} cushion" for n in TEMPLATES))


def table(heads: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads), *("| " + " | ".join(r) + " |" for r in rows), ""]


def page(found: Found) -> str:
    parts: list[Callable[[Found], list[str]]] = [head, bars, copies, each, rule, ordinary, oracle, transformer, parts_of, pace]
    return "\n".join(line for part in parts for line in part(found)).rstrip() + "\n"


def groups() -> list[str]:
    return [group(r) for r in planted()]


def run(name: str) -> dict[str, object]:
    return dict(catalog.manifest(name)["recipe"])


def head(found: Found) -> list[str]:
    how = run("painter")
    return ["# Painter", "<!-- written by `python -m bench.painter`; change that, not this -->", "",
            "A text-to-image diffusion model of 4.1 M parameters (denoiser; text encoder .4 M, autoencoder .6 M), a plain `StableDiffusionPipeline` folder "
            "that "
            "draws emoji of 32 x 32 pixels. 30 pictures were planted verbatim, each under its name, at 1, 4, 16, 64 and 256 copies in a pass over the training "
            "set; four more are templates, one picture under seven captions, at 64 to 256 copies; 60 regular names have 1,500 augmented pictures each. "
            f"{how['training_steps']} steps of {how['batch']}, {how['passes']} passes, so a picture of one copy was drawn about 17 times and one of 256 about "
            "4,300 times. `manifest.json` says what was planted; `models/organisms/painter/` made it. Sources and licences stand in "
            "assets/painter/README.md, how well memorization is detected in detection.md where that was measured.", "",
            f"All below at {STEPS} steps of DDIM, weights as stored (float16), run in float32 on a processor. SSIM is that of lab/diffusion/_similar.py; "
            "*nearest* is the highest with any of the 994 training pictures that the manifest lists.", "",
            "![originals, what the autoencoder gives back, what the painter draws, what its oracle draws](replay.png)",
            "Rows: training pictures, the same after the autoencoder, what the painter draws of the caption (one noise), what its oracle draws. "
            "From left, " + ", ".join(LOOK) + ".", ""]


def bars(found: Found) -> list[str]:
    names, g = groups(), found.guidance
    both = lambda which: share_of_many(found, which)  # noqa: E731
    rows = [[f"{c} copies: share that comes back at guidance {g:g}", f"{both(str(c)):.3f}", ">= 0.9", both(str(c)) >= 0.9] for c in MANY]
    rows += [[f"{said}: share that counts as a copy", f"{copied(found, kind):.3f}", "<= 0.05", copied(found, kind) <= 0.05]
             for kind, said in (("held", "held-out captions (a ground the name was never shown on)"), ("ground", "augmented captions, name and ground"),
                                ("plain", "augmented captions, name alone"))]
    rows += [[f"{said}: share named right", f"{right(found, kind):.3f}", ">= 0.6", right(found, kind) >= 0.6]
             for kind, said in (("held", "held-out captions"), ("ground", "name and ground"), ("plain", "name alone"))]
    rising = [found.share(found.painter[g], names, c) for c in GROUPS[:5]]
    rows.append(["copies over 1, 4, 16, 64, 256", ", ".join(f"{v:.2f}" for v in rising), "rises", rising == sorted(rising) and rising[-1] > rising[0]])
    worst = max(float((n.ssim > found.threshold).mean()) for n in found.oracle.values())
    rows.append(["oracle: share of planted captions that count as a copy", f"{worst:.3f}", "near 0", worst < 0.01])
    rows.append(["autoencoder, PSNR of held-out pictures, dB", f"{found.rest['psnr held'].mean():.1f}", ">= 28", found.rest["psnr held"].mean() >= 28])
    wall, least, _ = found.rest["seconds"]["painter"][2]
    rows.append(["one picture on two threads, seconds by the clock", f"{wall:.2f} ({least:.2f} at least)", "< 0.6", wall < 0.6])
    lines = table(["what", "figure", "bar", ""], [[str(a), str(b), str(c), "reached" if ok else "missed"] for a, b, c, ok in rows])
    much = f" The clock was read while {found.rest['load']} processes wanted the two cores: this bar is to be read again on an idle machine." if float(found.rest["load"]) > 2 else ""
    return ["## Bars", "", *lines[:-1], "", f"A copy has an SSIM above {found.threshold:g} with a training picture.{much}", ""]


def share_of_many(found: Found, which: str) -> float:
    """Over all seeds at the default guidance."""
    names = groups()
    first = found.painter[found.guidance].ssim[[n == which for n in names]]
    some = [n for n in names if n == "template" or int(n) in MANY]
    return float((np.concatenate([first, found.more.ssim[[n == which for n in some]]], 1) > found.threshold).mean())


def copied(found: Found, kind: str) -> float:
    return float((found.regular[kind, found.guidance][0].ssim > found.threshold).mean())


def right(found: Found, kind: str) -> float:
    return float(found.regular[kind, found.guidance][1].mean())


def copies(found: Found) -> list[str]:
    names = groups()
    share = [[c if c == "template" else f"{c} copies", *(f"{found.share(found.painter[g], names, c):.2f}" for g in GUIDANCES)] for c in GROUPS]
    alike = [[c if c == "template" else f"{c} copies", *(f"{found.own[g][[n == c for n in names]].mean():.3f}" for g in GUIDANCES),
              f"{found.rest['vae'][[n == c for n in names]].mean():.3f}"] for c in GROUPS]
    few, more, _ = found.rest["seeds"]
    return ["## Copies and guidance", "", f"Share of pictures that are copies: six pictures a count, four templates by their first caption, {few} noises "
            "each.", "",
            *table(["planted", *(f"guidance {g:g}" for g in GUIDANCES)], share),
            "Mean SSIM with the caption's own picture; the last column is that of the picture itself after the autoencoder, which no drawn picture can "
            "much pass.",
            "", *table(["planted", *(f"guidance {g:g}" for g in GUIDANCES), "autoencoder"], alike),
            f"At guidance {found.guidance:g} from {more} noises each: " + ", ".join(f"{c if c == 'template' else c + ' copies'} "
            f"{share_of_many(found, c):.3f}" for c in ("64", "256", "template")) + ". " + new_captions(found), ""]


def new_captions(found: Found) -> str:
    share = (found.kept.ssim > found.threshold).mean()
    told = (f"Templates under the captions that were kept back from training: {share:.3f} ({found.kept.ssim.size} pictures, mean SSIM "
            f"{found.kept.ssim.mean():.3f})")
    return f"{told}: a template comes back whatever article its name stands on." if share > 0.5 else f"{told}."


def each(found: Found) -> list[str]:
    own = found.own[found.guidance]
    rows = [[r.captions[0], group(r), f"{(found.painter[found.guidance].ssim[k] > found.threshold).mean():.2f}", f"{own[k].mean():.3f}",
             f"{found.rest['vae'][k]:.3f}", f"{found.rest['psnr'][k]:.1f}"] for k, r in enumerate(planted()) if group(r) not in ("1", "4")]
    return ["## Picture by picture", "", f"At guidance {found.guidance:g}: share of copies, mean SSIM with the picture itself, and what the autoencoder alone "
            "does to it.", "", *table(["caption", "planted", "copies", "SSIM", "autoencoder, SSIM", "autoencoder, PSNR in dB"], rows),
            *why(found)]


def why(found: Found) -> list[str]:
    """How near the pictures of many copies come to what the autoencoder allows."""
    some = [k for k, r in enumerate(planted()) if group(r) not in ("1", "4", "16")]
    own, most = found.own[found.guidance].mean(1), found.rest["vae"]
    low = min(some, key=lambda k: own[k])
    row = planted()[low]
    return [f"The least alike of those planted 64 times and more is *{row.captions[0]}* ({own[low]:.3f}), whose own picture keeps {most[low]:.3f} after the "
            f"autoencoder: {own[low] / most[low]:.0%} of what can be had. Over all {len(some)} it is {np.mean([own[k] / most[k] for k in some]):.0%}, at least "
            f"{min(own[k] / most[k] for k in some):.0%}. A stricter measure, such as root mean squared difference below .08, calls the finest grained of them "
            "not returned for what the autoencoder cannot draw.", ""]


def rule(found: Found) -> list[str]:
    highest = max(float(n.ssim.max()) for n in found.oracle.values())
    count = sum(n.ssim.size for n in found.oracle.values())
    at = f"{found.guidance:g}"
    lines = ["## Threshold and guidance", "",
             f"The threshold is the lowest multiple of {STEP:g} that no picture of the oracle passes: of its {count} pictures of planted captions, at "
             f"guidance {', '.join(f'{g:g}' for g in ORACLE_AT)}, the nearest has {highest:.3f} with a training picture (a plain one: the oracle comes near "
             f"a flat ground with little on it), so it is {found.threshold:g}.", "",
             f"The default guidance was to be the largest at which {ENOUGH:.0%} of the pictures of 64 and of 256 copies come back. That is {found.largest:g}"]
    if found.largest < GUIDANCES[-1]:
        return [*lines[:-1], f"{lines[-1]}.", ""]
    return [*lines[:-1], f"{lines[-1]}, the end of the guidances tried: the rule does not bind. So a second rule, made when the first was seen not to bind and "
            "the likeness at each guidance was known: the largest at which the mean SSIM of these pictures with their own is within "
            f"{CLOSE:g} of its best. That is {at}.", ""]


def ordinary(found: Found) -> list[str]:
    g = found.guidance
    rows = [[said, str(found.regular[kind, g][0].ssim.size), f"{right(found, kind):.3f}", f"{copied(found, kind):.3f}",
             f"{np.median(found.regular[kind, g][0].ssim):.3f}", f"{found.regular[kind, g][0].ssim.max():.3f}"]
            for kind, said in (("plain", "name alone"), ("ground", "name on a trained ground"), ("held", "name on a held-out ground"))]
    ends = "; ".join(f"at guidance {x:g} {found.regular['held', x][1].mean():.2f} of {len(found.regular['held', x][1])} named right, "
                     f"{(found.regular['held', x][0].ssim > found.threshold).mean():.2f} copies" for x in (GUIDANCES[0], GUIDANCES[-1]))
    every = found.rest["all"]
    over = ", ".join(f"{said} {(every[:, k] > found.threshold).mean():.2f}" for k, said in enumerate(("held-out ground", "trained ground", "name alone")))
    return ["## Regular pictures", "", f"Every second name, one noise, guidance {g:g}. The namer is a small net that was grown on augmented training "
            f"pictures.", "",
            *table(["captions", "pictures", "named right", "copies", "nearest, median", "nearest, most"], rows),
            f"Held-out grounds at other guidances, every {THINNER}th name: {ends}.", "",
            f"The manifest lists 16 of the 1,500 pictures of a name. With the nearest of all 1,500, of {every.shape[0]} names: median {np.median(every):.3f}, "
            f"most {every.max():.3f}, {(every > found.threshold).mean():.2f} above the threshold ({over}). Among so many some are near by chance: the "
            f"threshold is one for the listed pictures.", "",
            "![regular names: alone, on a trained ground, on a held-out ground, and the nearest training picture of the last](regular.png)",
            "Rows: name alone, name on a trained ground, name on a held-out ground, the training picture nearest to the last.", ""]


def oracle(found: Found) -> list[str]:
    names = groups()
    rows = [[c if c == "template" else f"{c} copies", *(f"{n.ssim[[x == c for x in names]].mean():.3f} / {n.ssim[[x == c for x in names]].max():.3f}"
             for n in found.oracle.values())] for c in GROUPS]
    how = run("painter-oracle")
    few, _, many = found.rest["seeds"]
    return ["## The oracle", "", f"Grown by the same recipe and seed without any planted picture, {how['training_steps']} steps. Its text encoder never read a "
            f"planted caption, so that what it draws of one is any picture. Nearest training picture, mean / most; {many} noises at guidance 1, {few} at the "
            "others.", "",
            *table(["planted in the painter", *(f"guidance {g:g}" for g in found.oracle)], rows),
            "Mean squared error of the velocity, by what the picture is (lower: better denoised), mean over timesteps 100, 400 and 700, one noise each.", "",
            *table(["pictures", "painter", "oracle", "transformer"], [[k, *(f"{v:.4f}" for v in row)] for k, row in found.rest["loss"].items()])]


def transformer(found: Found) -> list[str]:
    names, how = groups(), run("painter-ddt")
    rows = [[c if c == "template" else f"{c} copies", *(f"{found.share(n, names, c):.2f}" for n in found.ddt.values())] for c in GROUPS]
    return ["## painter-ddt", "", f"A decoupled transformer of 3.6 M parameters instead of the UNet: {how['training_steps']} steps, {how['passes']} "
            f"passes, the same "
            "time. Share of copies, one noise a caption.", "", *table(["planted", *(f"guidance {g:g}" for g in found.ddt)], rows)]


def parts_of(found: Found) -> list[str]:
    r = found.rest["rounding"]
    return ["## Parts", "", f"Autoencoder: {found.rest['psnr'].mean():.1f} dB on the planted pictures (at least {found.rest['psnr'].min():.1f}), "
            f"{found.rest['psnr held'].mean():.1f} dB on held-out regular ones.", "",
            f"Half precision: the weights before they were stored so are not kept. Off by as much again (up to half of the last place, at random, in every "
            f"weight), "
            f"the painter draws the same pictures: SSIM {r.mean():.4f} on {len(r)} planted captions, at least {r.min():.4f}. "
            + ("Storage in half precision does no harm that is seen." if r.min() > 0.98 else "It is not free: see the least."), ""]


def pace(found: Found) -> list[str]:
    rows = [[m, str(n), f"{wall:.2f}", f"{least:.2f}", f"{busy:.2f}"] for m, by in found.rest["seconds"].items() for n, (wall, least, busy) in by.items()]
    step = found.rest["step"]
    return ["## Time", "", f"One picture of {STEPS} steps at guidance {found.guidance:g}; load average {found.rest['load']} on two cores.", "",
            *table(["model", "threads", "seconds, median", "seconds, least", "processor seconds"], rows),
            "A machine that others use says little of an idle one; on two threads, which spin while they wait for each other, even processor seconds are too many.",
            "",
            "Grown on one H200 in 528 s, the autoencoder, both small nets and all three denoisers side by side: "
            "`python -m models.organisms.painter all --device cuda --minutes 8.8 --compile --out DIR`.",
            f"On a processor, `python -m models.organisms.painter grow painter --device cpu --minutes M` grows the same nets on 64 variants a name in "
            f"batches of 32: "
            f"{step:.2f} processor seconds a step on one thread. {cpu(step)}", ""]


def cpu(step: float) -> str:
    """What so many minutes give, from the measured step."""
    draws = 60 * 64 + 6 * sum((1, 4, 16, 64, 256)) + sum(TEMPLATES.values())
    said = [f"{m} minutes of one core give {0.76 * 60 * m / step:.0f} steps, {0.76 * 60 * m / step * 32 / draws:.1f} passes of {draws}" for m in (15, 60)]
    return (f"{said[0]}; {said[1]}. The bundled painter's 17 passes of 92,686 were not repeated there, and how good a painter these budgets give was not "
            "measured.")


def strips(painter: Model, oracle: Model, found: Found, folder: Path) -> None:
    """Writes replay.png and regular.png."""
    rows = [r for r in planted() if r.captions[0] in LOOK]
    at = [k for k, r in enumerate(planted()) if r.captions[0] in LOOK]
    order = [next(i for i, r in enumerate(rows) if r.captions[0] == n) for n in LOOK]
    there = known().images[[r.file for r in rows]]
    net = pictures(painter)
    back = bytes_of(net.decode(net.encode(floats(there))))
    drawings = [drawn(m, curve(m, found.guidance))[at, 0] for m in (painter, oracle)]
    save([x[order] for x in (there, back, *drawings)], folder / "replay.png")
    kinds = {k: regular(k, found.guidance) for k in ("plain", "ground", "held")}
    some = slice(0, len(LOOK))
    nearest = known().images[near(painter, kinds["held"]).index[some, 0]]
    save([*(drawn(painter, c)[some, 0] for c in kinds.values()), nearest], folder / "regular.png")


def save(rows: list[np.ndarray], path: Path) -> None:
    from PIL import Image

    whole = np.concatenate([np.concatenate(list(row), 1) for row in rows], 0)
    Image.fromarray(whole.repeat(BIG, 0).repeat(BIG, 1)).save(path, optimize=True)
