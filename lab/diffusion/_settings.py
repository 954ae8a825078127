"""The settings that several experiments on pictures ask alike, each made anew so that a form keeps its own order. Imports no torch."""

from __future__ import annotations

from typing import Any

from lab.experiment import setting

GROWN = "0 takes what the model was grown for"
FILE = "a file, or its bytes in base64"
PUSHED = "How far beyond the text the picture is pushed"
ALONE = f"{PUSHED}: 1 is the text alone"


# What is asked


def prompts(to: str = "") -> Any:
    """Text, one prompt a line, by default the most copied captions; `to`: what is done to their pictures, where it is they that matter."""
    help = f"Captions of the pictures to {to}, one a line; planted takes the most copied ones of an organism"
    return setting("planted", help if to else "Prompts that replay, one a line; planted takes the most copied captions of an organism", lines=3)


def prompt() -> Any:
    """Text, one prompt, by default the most copied caption."""
    return setting("sample", "One prompt; sample takes the most copied caption of the organism")


def count(default: int, high: int = 32) -> Any:
    """How many captions are taken where nobody types any, 1 to `high`."""
    return setting(default, "With planted: how many", low=1, high=high)


def picture(what: str) -> Any:
    """A path or base64, by default none; `what` says what for."""
    return setting("", f"{what}: {FILE}")


# How it is drawn


def seeds(default: int = 4) -> Any:
    """Noises a picture, 1 to 16."""
    return setting(default, "Noises that each picture is drawn from, the first of them by seed", low=1, high=16)


def guidance(what: str = PUSHED) -> Any:
    """0 to 30, where 0 is the model's own."""
    return setting(0.0, f"{what}; {GROWN}", low=0.0, high=30.0)


def steps(of: str = "") -> Any:
    """Denoising steps, 0 to 200, where 0 is the model's own; `of` says of which pictures, where there are others."""
    return setting(0, f"Denoising steps{of and f' of {of}'}; {GROWN}", low=0, high=200)


# What is pruned before a search


def prune() -> Any:
    """One of none, nemo and wanda."""
    return setting("none", "What is pruned before the search: nothing, value neurons, or weights of the feed-forwards, for these captions",
                   choices=("none", "nemo", "wanda"))


def until() -> Any:
    """By what nemo judges that enough is pruned."""
    return setting("ends alike", "With nemo, when enough is pruned: noises no longer end alike, as published, or no picture is a copy",
                   choices=("ends alike", "pictures"))


def share() -> Any:
    """Of a row's weights, 0.001 to 0.5."""
    return setting(0.01, "With wanda: the share of every row that may be pruned", low=0.001, high=0.5)


# What a mitigation that trains is judged by


def spare() -> Any:
    """Whether other planted pictures are trained on too, by default not."""
    return setting(False, "Whether other planted pictures are trained on as well, so that they are kept; published without")


def beside() -> Any:
    """Other memories, 0 to 32."""
    return setting(4, "How many other memories are looked at", low=0, high=32)


def plain() -> Any:
    """Plain captions, 2 to 256."""
    return setting(12, "How many plain captions the quality is measured on", low=2, high=256)
