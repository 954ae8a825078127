"""Figures of unlearning: the curves of a run as they move, and several runs over each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lab.events import Curves, Scatter, Unlearning
from panels.draw import draw, escaped, facts, headed, heading
from panels.theme import DASHES, GOLD, LINES, RULED

CHART, GAP = 150, 46  # pixels of one chart, and between two
ROOM = 40  # letters above a chart that a phone has room for, part of them bold
COLOURS = {"forget": LINES[1], "retain": LINES[0], "holdout": LINES[4], "general text": LINES[2], "utility": LINES[2]}
SHARES = ("copies, share of noises", "named right")  # groups that are drawn from 0 to 1


@draw.register
def _(event: Unlearning) -> go.Figure:
    """A chart for every group of series, one below the other over the same steps; the oracles' place is a band, the weights changed are bars."""
    return curves(event)


def curves(event: Unlearning, at: float | None = None) -> go.Figure:
    """The curves, with a line at step `at` where one is chosen."""
    groups = list(dict.fromkeys(event.groups))
    bars = [bool(len(event.layers))]
    count = len(groups) + sum(bars)
    body = CHART * count + GAP * (count - 1)
    titles = [*(named(event, group) for group in groups), *(["change of the weights, by layer"] if any(bars) else [])]
    figure = make_subplots(rows=count, cols=1, vertical_spacing=GAP / body if count > 1 else 0, subplot_titles=titles)
    seen: set[str] = set()
    for row, group in enumerate(groups, 1):
        for s in (i for i, g in enumerate(event.groups) if g == group):
            add(figure, event, s, row, seen)
        figure.update_xaxes(RULED, row=row, col=1, range=[-0.5, max(5.0, float(event.step.max(initial=0.0)) + 0.5)], matches="x")
        whole = {"range": [-0.06, 1.06]} if group in SHARES else {"rangemode": "tozero" if group in ("accuracy", "probability") else "normal"}
        figure.update_yaxes(RULED, row=row, col=1, **whole)
    if any(bars):
        figure.add_trace(go.Bar(x=[escaped(name) for name in event.layers], y=event.change, marker_color=LINES[0], showlegend=False,
                                hovertemplate="%{x}: %{y:.3g} of its norm<extra></extra>"), row=count, col=1)
        figure.update_xaxes(showgrid=False, fixedrange=True, type="category", row=count, col=1)
        figure.update_yaxes(RULED, row=count, col=1)
    figure.update_annotations(x=0, xanchor="left", xref="paper", font={"size": 12})
    if at is not None:
        for row in range(1, len(groups) + 1):
            figure.add_vline(x=at, line={"color": GOLD, "width": 2}, row=row, col=1)
    figure.update_layout(legend={"orientation": "h", "x": 0, "y": 1 + 26 / body, "yanchor": "bottom", "font": {"size": 12}})
    done = f"step {event.step[-1]:.0f}, cost {event.cost:.1f} fine-tuning steps" if len(event.step) else "starting"
    names = list(dict.fromkeys(event.series))
    lines = -(-len(names) // (2 if max(map(len, names), default=0) < 16 else 1))  # of the legend, on a phone
    title = [*heading(event.title), *facts((done, *([event.ended] if event.ended else []), *event.facts))]
    return headed(figure, title, body, "", 30, max(56, 36 + 19 * lines))


def named(event: Unlearning, group: str) -> str:
    """What a chart shows, and what is wanted of it."""
    wanted = ", ".join(dict.fromkeys(f"{event.series[i]} {arrow(event.better[i])}" for i, g in enumerate(event.groups) if g == group))
    if len(group) + len(wanted) > ROOM:  # then what is wanted of all of them, or nothing
        ways = {arrow(event.better[i]) for i, g in enumerate(event.groups) if g == group}
        wanted = ways.pop() if len(ways) == 1 else ""
    return f"<b>{escaped(group)}</b>" + (f"  ({escaped(wanted)})" if wanted else "")


def arrow(better: str) -> str:
    return {"up": "↑", "down": "↓"}.get(better, "→ oracle" if "oracle" in better else better)


def add(figure: go.Figure, event: Unlearning, s: int, row: int, seen: set[str]) -> None:
    name, known = event.series[s], ~np.isnan(event.value[s])
    colour, dash = style(event, name)
    low, high = event.low[s], event.high[s]
    if not np.isnan(low):
        figure.add_hrect(y0=low, y1=max(high, low + 1e-6), fillcolor=colour, opacity=0.22, line={"color": colour, "width": 1}, row=row, col=1,
                         exclude_empty_subplots=False)
    figure.add_trace(go.Scatter(
        x=event.step[known], y=event.value[s][known], mode="lines+markers" if known.sum() < 40 else "lines", name=escaped(name), legendgroup=name,
        showlegend=name not in seen, line={"color": colour, "width": 2, "dash": dash},
        marker={"size": 5}, hovertemplate=f"<b>{escaped(name)}</b>, {escaped(event.groups[s])}<br>%{{y:.4g}} at step %{{x}}<extra></extra>"), row=row, col=1)
    seen.add(name)


def style(event: Unlearning, name: str) -> tuple[str, str]:
    """Colour and dashes of a series: those it has everywhere, else the next that no other of the run has."""
    if name in COLOURS:
        return COLOURS[name], DASHES[list(COLOURS).index(name) % 4]
    names = list(dict.fromkeys(event.series))
    taken = {style(event, n) for n in names if n in COLOURS}
    free = [look for look in ((colour, dash) for dash in DASHES for colour in LINES) if look not in taken]
    return free[[n for n in names if n not in COLOURS].index(name) % len(free)]


# Several runs


def series(event: Unlearning, group: str, name: str) -> np.ndarray | None:
    """The values of a series, or None where the run has it not."""
    found = [i for i, (g, s) in enumerate(zip(event.groups, event.series, strict=True)) if (g, s) == (group, name)]
    return event.value[found[0]] if found else None


def ended(event: Unlearning, group: str, name: str) -> float | None:
    """The last value of a series that was measured."""
    found = series(event, group, name)
    known = found[~np.isnan(found)] if found is not None else np.zeros(0)
    return float(known[-1]) if len(known) else None


def overlay(runs: Sequence[tuple[str, Unlearning]]) -> Curves | None:
    """Retain loss over forget loss, a line a run: at equal forgetting (one place on the axis) the lower line kept more."""
    lines = []
    for name, event in runs:
        forget, retain = series(event, "loss", "forget"), series(event, "loss", "retain")
        if forget is not None and retain is not None and len(forget):
            reached, first = np.unique(np.maximum.accumulate(np.nan_to_num(forget)), return_index=True)  # the first time that so much was forgotten
            lines.append((name, reached, retain[first]))
    if not lines:
        return None
    x = np.linspace(min(f[0] for _, f, _ in lines), max(f[-1] for _, f, _ in lines), 60)
    value = np.array([np.where((x >= f[0]) & (x <= f[-1]), np.interp(x, f, r), np.nan) for _, f, r in lines])
    return Curves("Retain loss at equal forgetting", tuple(name for name, _, _ in lines), x, "forget loss, nats a token", value, np.full_like(value, np.nan),
                  "retain loss, nats a token", "lower: less was lost of what was to be kept")


def pareto(runs: Sequence[tuple[str, Unlearning]]) -> Scatter | None:
    """A point a run, where it ended: what was forgotten against what was lost; by the distance to the oracles where every run has one."""
    truth = all(ended(event, "KL to the oracle", side) is not None for _, event in runs for side in ("forget", "retain"))
    across, up = (("KL to the oracle", "forget"), ("KL to the oracle", "retain")) if truth else (("probability", "forget"), ("loss", "retain"))
    points = [(f"{name}, cost {event.cost:.0f}", x, y) for name, event in runs
              if (x := ended(event, *across)) is not None and (y := ended(event, *up)) is not None]
    if not points:
        return None
    labels, place = tuple(name for name, _, _ in points), np.array([p[1:] for p in points])
    names = ("KL to the oracle on forget, nats", "KL to the oracle on retain, nats") if truth else ("probability of what was to go", "retain loss, nats")
    return Scatter("Where the runs ended: down and left is best", labels, place[:, 0], place[:, 1], *names, same=False,
                   direction="lower on both axes: nearer to a model that never read the forget set")

