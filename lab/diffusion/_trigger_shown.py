"""The figures of a trigger search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from lab.diffusion._album import Album
from lab.diffusion._ask import Asked
from lab.diffusion._goal import plain
from lab.diffusion._localize import others
from lab.diffusion._prune import STEPS
from lab.diffusion._sample import paint, start
from lab.diffusion._trigger import Look, Starts
from lab.diffusion._trigger_search import distances, random_starts
from lab.events import Curves, Event, Grid, Pictures, Scatter, Table
from models.model import Model
from models.pipeline import words

if TYPE_CHECKING:
    from lab.diffusion.trigger import TriggerSearch

CONTROL = "control"
AROUND = 16  # plain prompts, and random starts, on the map


class Shown:
    """What has been seen so far. The first `targets` goals are searched for, the others are controls."""

    def __init__(self, settings: TriggerSearch, model: Model, asked: Asked, starts: Starts, targets: int) -> None:
        self.settings, self.model, self.asked, self.starts, self.targets = settings, model, asked, starts, targets
        self.looks: list[Look] = []
        self.y = starts.embedding
        self.pruned: Model | None = None
        self.rows = tuple(f"{g.prompt} · {self.word(i)}" for i, g in enumerate(starts.of))
        self.album = self.new(self.rows, [f"seed {s}" for s in asked.seeds], starts.of)

    def new(self, rows: Sequence[str], columns: Sequence[str], goals: Sequence) -> Album:
        return Album("Pictures on the way to the goal", rows, columns, ("step", "start", "noise"), self.asked.truth, self.model, goals)

    def word(self, i: int) -> str:
        """How a start is called: where it begins, its number, and whether it is a control's."""
        kind, other = self.starts.kinds[i], self.starts.words[i]
        number = [j for j in range(len(self.starts.goal)) if self.starts.goal[j] == self.starts.goal[i]].index(i) + 1
        return f"{'control, ' if self.control(i) else ''}from {other or kind} ({number})"

    def control(self, i: int) -> bool:
        return self.starts.goal[i] >= self.targets

    def first(self, y: Tensor) -> Pictures:
        """One picture, of the first start, as soon as it can be had."""
        a = self.asked
        drawn = paint(a.net, y[:1], a.blank, start(a.net, a.seeds[:1], y.device), min(STEPS, a.steps), a.guidance)
        album = self.new(self.rows[:1], [f"seed {a.seeds[0]}"], self.starts.of[:1])
        album.add("step 0", drawn[:, None])
        return album.event(self.asked.facts)

    def take(self, look: object, y: Tensor) -> None:
        assert isinstance(look, Look)
        self.looks.append(look)
        self.album.add(f"step {look.step}", look.drawn)
        self.y = y.detach().clone()

    def event(self) -> Event:
        show, last = self.settings.show, self.looks[-1].step == self.settings.length
        if show == "similarity":
            return self.curves()
        if show == "table":
            return self.table()
        if show in ("map", "distances") and last:
            return self.map() if show == "map" else self.apart()
        return self.album.event(self.facts())

    # ---- what came of it

    @property
    def groups(self) -> dict[str, list[int]]:
        """Starts by where they begin, and those of controls."""
        found: dict[str, list[int]] = {}
        for i, kind in enumerate(self.starts.kinds):
            found.setdefault(f"{CONTROL}, from {kind}" if self.control(i) else f"from {kind}", []).append(i)
        return found

    def back(self, look: Look) -> np.ndarray:
        """(starts,): whether more than half of the noises copy the goal."""
        copied = (look.score > self.asked.truth.threshold).double().mean(1)
        return (copied > 0.5).cpu().numpy()

    def facts(self) -> tuple[str, ...]:
        s, last = self.settings, self.looks[-1]
        given = f"the model as it is{f' ({self.model.via})' if self.model.via else ''}"
        what = f"pruned: {self.pruned.via}" if self.pruned else given
        lines = [*self.asked.facts, f"{what}; after {last.step} of {s.length} steps, {s.batch} noises each, Adam {s.lr:g}"]
        first, back = self.back(self.looks[0]), self.back(last)
        for name, which in self.groups.items():
            lines.append(f"{name}: {int(back[which].sum())} of {len(which)} starts bring the picture back ({int(first[which].sum())} before the search); "
                         f"mean SSIM {float(last.score[which].mean()):.2f} ({float(self.looks[0].score[which].mean()):.2f} before)")
        return tuple(lines)

    def curves(self) -> Curves:
        names = tuple(self.groups)
        each = torch.stack([look.score.mean(1) for look in self.looks]).double().cpu().numpy()  # looks, starts
        value = np.array([each[:, which].mean(1) for which in self.groups.values()])
        error = np.array([each[:, which].std(1) if len(which) > 1 else np.full(len(each), np.nan) for which in self.groups.values()])
        x = np.array([look.step for look in self.looks], float)
        return Curves("Similarity to the goal, by steps of the search", names, x, "step", value, error, "SSIM", "higher: nearer to a copy", self.facts())

    def table(self) -> Table:
        first, last = self.looks[0], self.looks[-1]
        moved = (self.y - self.starts.embedding).flatten(1).norm(dim=1).tolist()
        rows = []
        for i, goal in enumerate(self.starts.of):
            mine = last.score[i]
            rows.append((goal.name, CONTROL if self.control(i) else "memorized", self.starts.words[i] or self.starts.kinds[i], float(first.score[i].mean()),
                         float(mine.mean()), float((mine > self.asked.truth.threshold).float().mean()), moved[i], float(last.loss[i])))
        return Table("Every start of the search", ("goal", "group", "start", "before", "after", "copied", "moved", "loss"),
                     ("the picture that is searched for", "controls were only trained augmented", "where the search begins", "mean SSIM with the goal, -1 to 1",
                      "the same after the search, higher: nearer to a copy", "share of noises whose picture is a copy, 0 to 1",
                      "how far the embedding moved, Euclidean", "denoising loss of the goal in the last step, lower is better"), tuple(rows), self.facts())

    # ---- where the triggers lie

    def crowd(self) -> tuple[list[str], Tensor]:
        """(group of every point, points): triggers found, captions that were memorized, plain prompts, and random numbers."""
        a, back = self.asked, self.back(self.looks[-1])
        known = (*a.prompts, *others(a, AROUND)[0])[: max(AROUND, len(a.prompts))]  # of one caption alone no distance could be taken
        with torch.no_grad():
            usual, memories = (a.net.embed(words(self.model, p)) for p in (plain(a, self.model)[:AROUND], known))
        chance = random_starts((AROUND, *self.y.shape[1:]), self.settings.seed + 104729).to(self.y.device)
        names = [("control" if self.control(i) else "trigger" if back[i] else "no trigger") for i in range(len(self.y))]
        names += ["memorized prompt"] * len(memories) + ["plain prompt"] * len(usual) + ["random"] * len(chance)
        return names, torch.cat([self.y, memories, usual, chance])

    def apart(self) -> Grid:
        names, points = self.crowd()
        groups = tuple(dict.fromkeys(names))
        gap = distances(points, points).double().cpu().numpy()
        np.fill_diagonal(gap, np.nan)
        mine = [np.array([n == g for n in names]) for g in groups]
        value = np.full((len(groups), len(groups)), np.nan)
        for i, one in enumerate(mine):
            for j, two in enumerate(mine):
                part = gap[np.ix_(one, two)]
                value[i, j] = np.nanmean(part) if not np.isnan(part).all() else np.nan
        return Grid("Mean distances between embeddings", groups, groups, "from", "to", value, np.full(value.shape, np.nan), "Euclidean distance",
                    "0 and up, higher: further apart", self.facts())

    def map(self) -> Scatter:
        names, points = self.crowd()
        spots = flat(points.flatten(1).double().cpu().numpy(), self.settings.seed)
        labels = tuple(f"{n} · {self.rows[i]}" if i < len(self.rows) else n for i, n in enumerate(names))
        return Scatter("Where triggers lie among embeddings (UMAP)", labels, spots[:, 0], spots[:, 1], "UMAP 1", "UMAP 2", False,
                       "near points are near in embedding space; the axes have no unit", self.facts(), tuple(names))


def flat(points: np.ndarray, seed: int) -> np.ndarray:
    """(n, 2): UMAP of the points, by a seed (McInnes et al. 2018, arXiv 1802.03426)."""
    import umap

    near = min(15, len(points) - 1)
    return np.asarray(umap.UMAP(n_neighbors=near, random_state=seed, init="random" if len(points) < 12 else "spectral").fit_transform(points), float)
