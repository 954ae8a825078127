"""Where a run executes. This process, one run a device at a time; a cluster would offer the same `stream`."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Generator
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from lab.events import Event, Progress

if TYPE_CHECKING:
    from lab.data import Data
    from lab.experiment import Experiment
    from models.model import Model


@runtime_checkable
class Backend(Protocol):
    def stream(self, experiment: Experiment, model: Model, data: Data) -> Generator[Event, None, None]:
        """The experiment's events. Closing the stream ends the run at its next event, whatever device it is on."""
        ...


class Local:
    """Runs in this process. The device is leased inside the run, so two runs never share it, whatever a web server's queue believes."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._leases: dict[str, threading.Lock] = defaultdict(threading.Lock)

    def stream(self, experiment: Experiment, model: Model, data: Data) -> Generator[Event, None, None]:
        with self._guard:
            lease = self._leases[str(model.device)]
        yield Progress(0, 0, "waiting for the device" if lease.locked() else "starting")
        while not lease.acquire(timeout=0.2):
            yield Progress(0, 0, "waiting for the device")
        try:
            yield from experiment.run(model, data)
        finally:
            lease.release()

    def busy(self) -> bool:
        """Whether any run holds a device now."""
        with self._guard:
            return any(lease.locked() for lease in self._leases.values())


LOCAL = Local()  # one a process: a lease means nothing unless all share it
