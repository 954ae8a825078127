"""What visitors hold on the server: bounded, keyed by their session, gone when they leave. The page itself carries ids only."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from uuid import uuid4

from lab.events import Event
from lab.runs import Run

KEPT = 512  # figures, over all visitors
EACH = 16  # figures of one visitor


@dataclass(frozen=True)
class Shown:
    """A figure on a page. `run` is None while the run that makes it goes on."""

    event: Event
    run: Run | None = None


@dataclass
class Ticket:
    """A run that someone asked for. It may start once, and goes on until it ends, is stopped, or another takes its place."""

    stopped: threading.Event = field(default_factory=threading.Event)
    claimed: bool = False


class Store:
    """The figures of all visitors, the least recently used thrown away first, and the runs they asked for."""

    def __init__(self, kept: int = KEPT, each: int = EACH) -> None:
        self._kept, self._each = kept, each
        self._guard = threading.Lock()
        self._shown: OrderedDict[tuple[str, str], Shown] = OrderedDict()
        self._tickets: dict[tuple[str, str], Ticket] = {}

    def put(self, session: str, shown: Shown, name: str = "") -> str:
        """Keeps `shown` and returns the name to find it by: the one given, or a new one."""
        key = (session, name or uuid4().hex)
        with self._guard:
            self._shown[key] = shown
            self._shown.move_to_end(key)
            mine = [k for k in self._shown if k[0] == session]
            for old in [*mine[: -self._each], *list(self._shown)[: max(0, len(self._shown) - self._kept)]]:
                self._shown.pop(old, None)
        return key[1]

    def get(self, session: str, name: str) -> Shown | None:
        """What was kept under `name` for this visitor; None where it is gone, or was never theirs."""
        with self._guard:
            if (session, name) in self._shown:
                self._shown.move_to_end((session, name))
            return self._shown.get((session, name))

    def of(self, session: str) -> list[tuple[str, Shown]]:
        """All that is kept for this visitor, with its names, the least recently used first."""
        with self._guard:
            return [(name, shown) for (owner, name), shown in self._shown.items() if owner == session]

    def ask(self, session: str, desk: str) -> None:
        """Someone wants a run at `desk`; the one they had there ends at its next event."""
        with self._guard:
            old = self._tickets.get((session, desk))
            self._tickets[session, desk] = Ticket()
        if old:
            old.stopped.set()

    def claim(self, session: str, desk: str) -> Ticket | None:
        """The ticket of a run that was asked for and has not started; None where there is none."""
        with self._guard:
            ticket = self._tickets.get((session, desk))
            if ticket is None or ticket.claimed:
                return None
            ticket.claimed = True
            return ticket

    def current(self, session: str, desk: str, ticket: Ticket) -> bool:
        """Whether `ticket` is still the last one asked for, so that its run may write on the page."""
        with self._guard:
            return self._tickets.get((session, desk)) is ticket

    def stop(self, session: str, desk: str) -> bool:
        """Ends the run at `desk`, also one that waits to start; returns whether there was one."""
        with self._guard:
            ticket = self._tickets.get((session, desk))
        if ticket:
            ticket.stopped.set()
        return ticket is not None

    def done(self, session: str, desk: str, ticket: Ticket) -> None:
        with self._guard:
            if self._tickets.get((session, desk)) is ticket:
                del self._tickets[session, desk]

    def leave(self, session: str) -> None:
        """The visitor closed the page: ends their runs and forgets their figures."""
        with self._guard:
            for key in [k for k in self._shown if k[0] == session]:
                del self._shown[key]
            tickets = [self._tickets.pop(k) for k in list(self._tickets) if k[0] == session]
        for ticket in tickets:
            ticket.stopped.set()

    def counts(self) -> dict[str, int]:
        with self._guard:
            return {"figures": len(self._shown), "runs": len(self._tickets)}


STORE = Store()  # one a process, empty until someone comes
