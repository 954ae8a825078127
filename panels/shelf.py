"""Models that visitors made by editing: each visitor's own, bounded in number and memory, gone when they leave."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from models.errors import LabError

if TYPE_CHECKING:
    from models.model import Model

PREFIX = "edit:"  # begins the name of an edited model where a page names models
EACH, EACH_BYTES = 40, 2**30  # of one visitor
ALL_BYTES = 6 * 2**30


@dataclass(frozen=True)
class Edit:
    """One snapshot. `name` finds it, `origin` is the name of the model that the run began with, `run` is the same for all snapshots of one run."""

    name: str
    title: str
    step: int
    model: Model
    origin: str
    run: str
    settings: dict[str, Any]
    loss: float = float("nan")  # of what was to be forgotten; of pictures, their similarity
    event: Any = None  # what its run had shown by then
    last: bool = False  # where its run ended
    kept: bool = False  # the visitor gave it a name
    task: str = "text"  # which pages it belongs to: see lab's folders

    @property
    def label(self) -> str:
        what = "forget loss" if self.task == "text" else "SSIM"
        loss = "" if self.loss != self.loss else f", {what} {self.loss:.2f}"
        return self.title if self.kept else f"{self.title}, step {self.step}{loss}"


class Shelf:
    def __init__(self, each: int = EACH, each_bytes: int = EACH_BYTES, all_bytes: int = ALL_BYTES) -> None:
        self._each, self._each_bytes, self._all_bytes = each, each_bytes, all_bytes
        self._guard = threading.Lock()
        self._edits: OrderedDict[tuple[str, str], Edit] = OrderedDict()

    def put(self, session: str, edit: Edit) -> Edit:
        """Keeps an edit under a new name. What gives way: snapshots on the way first, then the ends of runs, then what has a name; oldest first."""
        edit = replace(edit, name=f"{PREFIX}{uuid4().hex[:8]}")
        with self._guard:
            self._edits[session, edit.name] = edit
            self._bound(session)
        return edit

    def _bound(self, session: str) -> None:
        def over(mine: list[Edit]) -> bool:
            return len(mine) > self._each or sum(size(e.model) for e in mine) > self._each_bytes

        while over(mine := [e for (s, _), e in self._edits.items() if s == session]) and len(mine) > 1:
            del self._edits[session, min(mine[:-1], key=lambda e: (e.kept, e.last)).name]
        while sum(size(e.model) for e in self._edits.values()) > self._all_bytes and len(self._edits) > 1:
            self._edits.popitem(last=False)

    def get(self, session: str, name: str) -> Edit:
        """The visitor's edit called `name`; raises `LabError` where it is gone, or was never theirs."""
        with self._guard:
            if (session, name) not in self._edits:
                raise LabError("this edited model is no longer on the server", "the lab was restarted, the page was opened anew, or newer edits needed "
                               "the room", "Run the method again: the same seed gives the same model")
            return self._edits[session, name]

    def of(self, session: str) -> list[Edit]:
        """All of a visitor's, oldest first."""
        with self._guard:
            return [e for (s, _), e in self._edits.items() if s == session]

    def change(self, session: str, name: str, **to: Any) -> Edit:
        edit = replace(self.get(session, name), **to)
        with self._guard:
            if (session, name) in self._edits:
                self._edits[session, name] = edit
        return edit

    def drop(self, session: str, name: str) -> None:
        with self._guard:
            self._edits.pop((session, name), None)

    def leave(self, session: str) -> None:
        with self._guard:
            for key in [k for k in self._edits if k[0] == session]:
                del self._edits[key]

    def counts(self) -> dict[str, int]:
        with self._guard:
            return {"edits": len(self._edits), "edit_bytes": sum(size(e.model) for e in self._edits.values())}


def size(model: Model) -> int:
    """Bytes of the weights that it does not share with the first of its lineage."""
    root = model
    while root.parent is not None:
        root = root.parent
    shared = {id(p) for p in root.net.parameters()}
    return sum(p.numel() * p.element_size() for p in model.net.parameters() if id(p) not in shared)


def root(model: Model) -> str:
    """The name by which the catalog finds the first of its lineage."""
    return model.source.partition(":")[2].partition("@")[0] or model.source


SHELF = Shelf()  # one a process, empty until someone edits
