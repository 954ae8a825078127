"""Work in parts, told from outside: what a generator says on its way is put into other words, and what it returns is kept."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, TypeVar

S = TypeVar("S")
T = TypeVar("T")


def retold(run: Generator[Any, None, T], say: Callable[[Any], S]) -> Generator[S, None, T]:
    """Runs `run`; wherever it pauses, yields what `say` makes of what it yielded. Returns what it returns."""
    while True:
        try:
            heard = next(run)
        except StopIteration as end:
            return end.value
        yield say(heard)
