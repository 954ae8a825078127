"""What a map shows, in words: what was restored, how the subject was corrupted, and how the answer was scored."""

from __future__ import annotations

import html

from lab.events import TraceMap

CORRUPTED = {"gaussian": "with noise", "replacement": "with others", "mean": "with the mean", "zero": "with zeros"}
CHANCE = {"gaussian": "noise samples", "replacement": "other subjects"}
TOOK = {"gaussian": "the noise", "replacement": "the other subjects", "mean": "the mean in place of the subject", "zero": "the zeros in place of the subject"}
PART = {"mlp": "So much of the answer depends on what is computed here, at this token alone.",
        "attention": "So much of the answer is carried here, from other tokens to this one.",
        "severed": "Compare it with the map of hidden states: what is missing here passed through the {part} above."}
PARTS = {"mlp": "MLP", "attention": "attention"}


def restored(event: TraceMap) -> str:
    """Under the layers: what a cell puts back."""
    if event.kind.startswith("severed "):
        return f"state restored after layer, {several(event)} above held as disturbed"
    if event.kind == "hidden":
        return "state restored after layer"
    width = widest(event)
    return f"{part(event)} outputs restored around layer (window of {width})" if width > 1 else f"{part(event)} output restored in layer"


def short(event: TraceMap) -> str:
    """The kind of the map in two or three words."""
    return {"hidden": "hidden states", "mlp": "MLP outputs", "attention": "attention outputs"}.get(event.kind, event.kind)


def part(event: TraceMap) -> str:
    return PARTS.get(event.kind.removeprefix("severed "), event.kind)


def several(event: TraceMap, count: int = 2) -> str:
    """The part in the plural, where it stands for more than one layer and has one."""
    return f"{part(event)}s" if count > 1 and part(event) == "MLP" else part(event)


def widest(event: TraceMap) -> int:
    return max(end - first for first, end in event.windows)


def place(event: TraceMap, column: int) -> str:
    """Where a cell lies: after a layer, or over the layers of its window."""
    if event.kind.startswith("severed "):
        return f"after layer {event.layers[column]}, {several(event)} above held"
    if event.kind == "hidden":
        return f"after layer {event.layers[column]}"
    first, end = event.windows[column]
    return f"{part(event)} of layer {first}" if end - first == 1 else f"{several(event)} of layers {first} to {end - 1}"


def edges(event: TraceMap) -> list[tuple[int, int]]:
    """Runs of columns, first and last, whose window is cut off by the first or the last layer."""
    short = [c for c, (first, end) in enumerate(event.windows) if end - first < widest(event)]
    begins = [c for c in short if c - 1 not in short]
    return [(c, next(last for last in short if last >= c and last + 1 not in short)) for c in begins]


def score(event: TraceMap) -> str:
    """The quantity of the colours."""
    base = event.score.removesuffix(" recovered")
    if event.score != base:
        return f"share of the lost {base} that came back"
    return "logit difference that came back" if base == "logit difference" else f"{base} of the answer that came back"


def measured(event: TraceMap) -> str:
    """The score of the undisturbed and of the corrupted runs."""
    corrupted = CORRUPTED.get(event.corruption, "corrupted")
    if event.score == "probability":
        return f"P = {event.clean:.3f} undisturbed · P* = {event.corrupted:.3f} {corrupted}"
    if event.score.endswith(" recovered"):
        return f"{event.score}: 1 undisturbed · 0 {corrupted}"
    name = f"logit over {event.foil.strip() or 'foil'}" if event.score == "logit difference" else "log P"
    return f"{name}: {event.clean:.2f} undisturbed · {event.corrupted:.2f} {corrupted}"


def total(event: TraceMap) -> str:
    """What the corruption took away, and over how many corrupted runs."""
    drawn = f" · {event.samples} {CHANCE[event.corruption]}" if event.corruption in CHANCE else ""
    return f"total effect {event.total_effect:.3f} ± {event.corrupted_se:.3f}{drawn}"


def rerouted(event: TraceMap) -> str:
    """How often tokens went to other experts; empty where there are none to choose from."""
    if not event.rerouted:
        return ""
    corrupted, among, restored, again = event.rerouted
    more = f", {restored:,} of {again:,} changed when a state was restored" if again else ""
    return f"choices of experts: {corrupted:,} of {among:,} changed when corrupted{more}"


def meaning(event: TraceMap, token: int, column: int, effect: float, error: float) -> str:
    """What the number of a cell means."""
    (begin, end), took, last = event.subject, TOOK.get(event.corruption, "the corruption"), token == len(event.tokens) - 1
    answer, alone, small = f"<i>{html.escape(event.answer)}</i>", putting(event, column), 0.005 * max(1.0, abs(event.total_effect))
    if token < begin:
        return "This token comes before the subject. The disturbance never reached it, so there is nothing to restore."
    if abs(effect) <= 2 * error or abs(effect) < small:
        return f"{alone} changes nothing that could be told from chance: {answer} does not come through here alone."
    if effect < 0:
        return f"{alone} makes {answer} less likely than {took} alone did: here it works against the rest of the disturbed run."
    share = effect / event.total_effect if event.total_effect > 0.01 else 0.0
    back = f"{alone} brings back {share:.0%} of what {took} took from {answer}."
    if event.kind != "hidden":
        return f"{back} {PART[event.kind.partition(' ')[0]].format(part=several(event))}"
    if last:
        return f"{back} It is the last token, where the answer is put together and spoken, so late layers are always bright here."
    if begin <= token < end:
        return f"{back} It belongs to the subject: by this layer the network has gathered here what it needs of it."
    return f"{back} It lies between the subject and the answer: what is known of the subject has travelled through here on its way."


def putting(event: TraceMap, column: int) -> str:
    """What was done in this cell, as the subject of a sentence."""
    if event.kind == "hidden":
        return "Restoring this one state"
    if event.kind.startswith("severed "):
        return f"Restoring this one state, with the {several(event)} of the layers above it held as disturbed,"
    first, end = event.windows[column]
    if end - first == 1:
        return f"Restoring what the {part(event)} of layer {first} added at this token"
    return f"Restoring what the {several(event)} of layers {first} to {end - 1} added at this token"
