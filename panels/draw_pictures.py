"""The figure of pictures: a table of them, each over what it is compared with, frame by frame under a slider."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import plotly.graph_objects as go
from PIL import Image

from lab.events import Pictures
from panels.draw import BARE, draw, escaped, facts, heading, plain, visible
from panels.theme import LINES

FRAMES = 4  # of a run that are shown: a slider of more would make the page heavy
SHOWN = 78  # pixels of a picture on the page, so that four stand side by side on a phone
LARGE = 128  # pixels of a picture that are kept: more than a figure can show
GAP, WORDS = 0.09, 0.24  # between pictures, and for the words under one, as shares of a picture
COPY = (217, 110, 20)  # the frame around a copy


@draw.register
def _(event: Pictures) -> go.Figure:
    """Rows and columns as the event names them; around a copy stands a frame. The picture beside each stands below it, smaller."""
    frames = chosen(event)
    sheets = [sheet(event, f) for f in frames]
    at = frames.index(event.frame if event.frame >= 0 else len(event.frames) - 1)
    image, places, side = sheets[at]
    figure = go.Figure(go.Image(source=image, hoverinfo="skip"))
    figure.add_trace(go.Scatter(x=[p[0] for p in places], y=[p[1] for p in places], mode="markers", marker={"size": 34, "opacity": 0, "symbol": "square"},
                                text=hovers(event, frames[at]), hovertemplate="%{text}<extra></extra>", showlegend=False))
    title = [*heading(event.title), *facts((*event.facts, event.direction))]
    height, width = side
    pixels = SHOWN / tile(event)[0]
    body, top = round(height * pixels), 20 * len(title) + 30
    foot = 86 if len(frames) > 1 else 34
    names = [escaped(visible(c, 14)) for c in event.columns]
    each = [i for i in range(len(event.rows)) for _ in event.columns]
    rows = [escaped(visible(r, 40)) for r in event.rows]
    figure.update_layout(
        xaxis={"tickmode": "array", "tickvals": [p[0] for p in places[: len(names)]], "ticktext": names, "range": [0, width], "constrain": "domain",
               "constraintoward": "left", **BARE},
        yaxis={"showticklabels": False, "range": [height, 0], "scaleanchor": "x", "constrain": "domain", "constraintoward": "top", **BARE},
        annotations=words(event, frames[at], places) + lines(rows, each, places, event),
        title={"text": "<br>".join(title), "font": {"size": 14}, "x": 0.0, "xref": "container", "xanchor": "left", "yref": "container", "yanchor": "top",
               "y": 1 - 16 / (top + body + foot), "pad": {"l": 4}}, height=top + body + foot, margin={"l": 8, "r": 14, "t": top, "b": foot})
    if len(frames) > 1:
        figure.update_layout(sliders=[slider(event, frames, sheets, rows, each, at)])
    return plain(figure)


def chosen(event: Pictures) -> list[int]:
    """The frames that are shown: all of few; of many some, evenly, with the first, the last and the one to begin with."""
    count = len(event.frames)
    picked = {round(i) for i in np.linspace(0, count - 1, min(count, FRAMES))}
    return sorted(picked | {event.frame if event.frame >= 0 else count - 1})


def tile(event: Pictures) -> tuple[int, int]:
    """(height, width) of a picture on the sheet."""
    high, wide = event.image.shape[1:3]
    less = min(1.0, LARGE / max(high, wide))
    return max(1, round(high * less)), max(1, round(wide * less))


def sheet(event: Pictures, frame: int) -> tuple[str, list[tuple[float, float]], tuple[int, int]]:
    """One frame for the browser, the middle of each picture on it, and its (height, width). What lies between pictures is clear."""
    high, wide = tile(event)
    gap, below = max(2, round(GAP * wide)), round(WORDS * high) + 1
    paired = len(event.other) > 0
    row = high + below + (high * 2 // 3 + gap if paired else 0) + below
    size = (len(event.rows) * row + gap, len(event.columns) * (wide + gap) + gap)
    whole, places, copied = Image.new("RGBA", size[::-1], (0, 0, 0, 0)), [], event.copied()
    for r in range(len(event.rows)):
        for c in range(len(event.columns)):
            i, x, y = event.at(frame, r, c), gap + c * (wide + gap), r * row + below
            if copied[i]:
                whole.paste((*COPY, 255), (x - gap // 2, y - gap // 2, x + wide + gap // 2, y + high + gap // 2))
            whole.paste(shrunk(event.image[i], wide, high), (x, y))
            if event.beside[i] >= 0:
                less = (wide * 2 // 3, high * 2 // 3)
                whole.paste(shrunk(event.other[event.beside[i]], *less), (x + (wide - less[0]) // 2, y + high + below))
            places.append((x + wide / 2, y + high / 2))
    file = io.BytesIO()
    whole.save(file, "WEBP", quality=80, method=4)  # a fifth of a PNG; the pictures themselves go into the JSON to the last bit
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}", places, size


def shrunk(picture: np.ndarray, wide: int, high: int) -> Image.Image:
    image = Image.fromarray(picture)
    return image if image.size == (wide, high) else image.resize((wide, high), Image.Resampling.LANCZOS)


def words(event: Pictures, frame: int, places: list[tuple[float, float]]) -> list[dict[str, Any]]:
    """Under each picture how near it is to what stands beside it, or, where nothing does, its label."""
    found, (high, _) = [], tile(event)
    for r in range(len(event.rows)):
        for c in range(len(event.columns)):
            i = event.at(frame, r, c)
            x, y = places[r * len(event.columns) + c]
            score = event.score[i]
            said = (f"<b>{score:.2f} copy</b>" if event.copied()[i] else f"{score:.2f}") if not np.isnan(score) else escaped(visible(event.labels[i], 12))
            if said.strip("␣"):
                found.append(note(said, x, y + high / 2, "top", "center"))
    return found


def lines(rows: list[str], each: list[int], places: list[tuple[float, float]], event: Pictures) -> list[dict[str, Any]]:
    """The name of each row, over its first picture."""
    starts = [each.index(r) for r in range(len(rows))]
    high, wide = tile(event)
    over = high / 2 + GAP * wide * 0.7
    return [note(f"<b>{name}</b>", places[s][0] - wide / 2, places[s][1] - over, "bottom", "left") for name, s in zip(rows, starts, strict=True)]


def note(text: str, x: float, y: float, yanchor: str, xanchor: str) -> dict[str, Any]:
    return {"text": text, "x": round(x, 1), "y": round(y, 1), "yanchor": yanchor, "xanchor": xanchor}  # the rest is the template's


def hovers(event: Pictures, frame: int) -> list[str]:
    found = []
    for r in range(len(event.rows)):
        for c in range(len(event.columns)):
            i = event.at(frame, r, c)
            beside = event.names[event.beside[i]] if event.beside[i] >= 0 else ""
            name, score = escaped(visible(beside, 40)) if beside else "", event.score[i]
            near = f"nearest: {name}, {event.unit} {score:.3f}" if beside and not np.isnan(score) else name
            said = [f"<b>{escaped(visible(event.rows[r], 40))}</b>, {escaped(visible(event.columns[c], 40))}", near, escaped(event.labels[i])]
            found.append("<br>".join(s for s in said if s))
    return found


def slider(event: Pictures, frames: list[int], sheets: list[Any], rows: list[str], each: list[int], at: int) -> dict[str, Any]:
    steps = [{"method": "update", "label": escaped(visible(event.frames[f], 12)),
              "args": [{"source": [image, None], "text": [None, hovers(event, f)]},
                       {"annotations": words(event, f, places) + lines(rows, each, places, event)}]}
             for f, (image, places, _) in zip(frames, sheets, strict=True)]
    return {"active": at, "steps": steps, "x": 0.0, "len": 1.0, "pad": {"t": 34, "l": 16, "r": 8}, "currentvalue": {"visible": False},
            "activebgcolor": LINES[0], "font": {"size": 11}, "ticklen": 3, "minorticklen": 0}
