"""What a run is after: prompts with the picture that each brings back, and pictures that nobody memorized beside them."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from lab import png
from lab.diffusion._ask import Asked, asked
from lab.diffusion._sample import paint, start, together
from lab.diffusion._similar import floats, sized, ssim
from lab.diffusion._training import PLANTED, Row, Truth, copies, truth
from models.errors import BadInput
from models.pipeline import Pipeline, shortened, words

if TYPE_CHECKING:
    from lab.data import Data
    from models.model import Model

MEMORIZED = "planted"  # the word that stands for the most copied captions
FEW = 8  # names, below which captions that say more are taken too
PLAIN = ("a dog on the grass", "a red apple", "the moon over a town", "a green tree", "a boat on a lake", "a small house", "a cup on a table", "a bird",
         "a blue car", "a fish in water", "an old book", "a yellow flower", "a bridge", "a cat asleep", "a train", "a loaf of bread")


@dataclass(frozen=True, eq=False)
class Goal:
    """A picture that is to be brought back, or kept from coming back. `pixels` (3, H, W) in 0 to 1, at the model's size; `latent` is what it is encoded to.

    `kind` is that of its row of the manifest, "own" for a picture that someone gave, "drawn" for one that the model drew itself.
    """

    prompt: str
    name: str
    kind: str
    pixels: Float[Tensor, "3 H W"]
    latent: Float[Tensor, "c h w"]


def memorized(prompts: str, model: Model, data: Data, most: int) -> str:
    """The lines of `prompts`; where they are `planted`, the first captions of the most copied pictures, `most` at most."""
    if prompts.strip() != MEMORIZED:
        return prompts
    rows = sorted(planted(truth(model, data)), key=lambda r: -r.copies)[:most]
    if not rows:
        raise BadInput("nothing is known to be planted", "only of the lab's own organisms is it known what they memorized", "Write a prompt that replays",
                       setting="prompts")
    return "\n".join(r.captions[0] for r in rows)


def ask(settings: object, model: Model, data: Data, most: int) -> Asked:
    """What a run asks for. `settings` has prompts, seed, seeds, guidance and steps."""
    s: object = settings
    prompts = memorized(s.prompts, model, data, most)  # type: ignore[attr-defined]
    return asked(model, data, prompts, s.seed, s.seeds, s.guidance, s.steps)  # type: ignore[attr-defined]


def planted(known: Truth) -> list[Row]:
    return [r for r in known.of(*PLANTED) if r.captions and r.file >= 0]


def goals(asked: Asked, model: Model, picture: str = "") -> tuple[Goal, ...]:
    """The goal of every prompt: the picture that was given, or the one it was trained with, or else what the model draws from the first noise."""
    own = png.read(picture) if picture.strip() else None
    found = []
    for i, prompt in enumerate(asked.prompts):
        row = asked.truth.row(prompt)
        if own is not None:
            found.append(goal(asked.net, model.device, prompt, "your picture", "own", floats(own[None])))
        elif row is not None and row.file >= 0:
            found.append(of_row(asked, model.device, row, prompt))
        else:
            one = paint(asked.net, asked.embedding[i : i + 1], asked.blank, start(asked.net, asked.seeds[:1], model.device), asked.steps, asked.guidance)
            found.append(goal(asked.net, model.device, prompt, f"what {shortened(prompt)} draws from noise {asked.seeds[0]}", "drawn", one))
    return tuple(found)


def goal(net: Pipeline, device: torch.device, prompt: str, name: str, kind: str, pixels: Tensor) -> Goal:
    with torch.no_grad():
        shown = sized(pixels.to(device), net.pixels)
        return Goal(prompt, name, kind, shown[0], net.encode(shown)[0])


def of_row(asked: Asked, device: torch.device, row: Row, prompt: str = "") -> Goal:
    prompt = prompt or row.captions[0]
    return goal(asked.net, device, prompt, f"{prompt} · {copies(row)}", row.kind, floats(asked.truth.images[row.file][None]))


def controls(asked: Asked, model: Model, count: int, seed: int) -> tuple[Goal, ...]:
    """`count` training pictures that were only seen augmented, drawn by `seed`: what a search finds of these it would find of anything.

    Where no such picture is known, it is what the model draws of plain prompts.
    """
    rows = [r for r in asked.truth.of("regular") if r.file >= 0 and r.captions]
    if rows:
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed)).tolist()
        return tuple(of_row(asked, model.device, rows[i]) for i in order[:count])
    prompts = PLAIN[:count]
    if not prompts:
        return ()
    with torch.no_grad():
        embedding = asked.net.embed(words(model, prompts))
    latents = start(asked.net, asked.seeds[:1], model.device).expand(len(prompts), -1, -1, -1)
    drawn = paint(asked.net, embedding, asked.blank, latents, asked.steps, asked.guidance)
    return tuple(goal(asked.net, model.device, p, f"what {p} draws", "drawn", drawn[i : i + 1]) for i, p in enumerate(prompts))


def plain(asked: Asked, model: Model, typed: str = "", most: int = 64) -> tuple[str, ...]:
    """Prompts that no picture was memorized for: those typed, or the organism's regular names, or plain words for any other model.

    Captions that also tell the background specify a picture so strongly that they look half memorized: they are taken only where there are few names.
    """
    lines = tuple(line.strip() for line in typed.splitlines() if line.strip())
    rows = asked.truth.of("regular", "held")
    every = tuple(dict.fromkeys(c for r in rows for c in r.captions))
    names = tuple(c for c in every if c in {r.name for r in rows})
    found = lines or (names if len(names) >= FEW else every) or PLAIN
    if len(found) < 2:
        raise BadInput("one plain prompt is too few", "what is usual is told from their mean and spread", "Give two or more, better sixteen", setting="others")
    gap = max(1, len(found) // most)
    return found[::gap][:most]


def draw(net: Pipeline, embedding: Float[Tensor, "n rows width"], blank: Float[Tensor, "1 rows width"], seeds: Sequence[int], steps: int, guidance: float,
         ) -> Generator[None, None, Float[Tensor, "n seeds 3 H W"]]:
    """The finished pictures of every embedding from every seed; yields between batches."""
    n, device = len(embedding), embedding.device
    latents = start(net, seeds, device).repeat(n, 1, 1, 1)
    last = None
    for step in together(net, embedding.repeat_interleave(len(seeds), 0), blank, latents, steps, guidance):
        last = step if step is not None else last
        yield
    assert last is not None
    found = []
    for part in last.latents.split(32 if max(net.pixels) <= 64 else 1):
        with torch.no_grad():
            found.append(net.decode(part))
        yield
    return torch.cat(found).unflatten(0, (n, len(seeds)))


def likeness(drawn: Float[Tensor, "n seeds 3 H W"], wanted: Sequence[Goal]) -> Float[Tensor, "n seeds"]:
    """SSIM of every picture with its goal, -1 to 1, higher is nearer."""
    goals = torch.stack([g.pixels for g in wanted]).to(drawn.device)
    each = goals[:, None].expand(drawn.shape).flatten(0, 1)
    return ssim(drawn.flatten(0, 1), each).view(drawn.shape[:2])
