"""Two runs never share a device, and a run that ends in any way gives it back."""

from __future__ import annotations

import threading

import pytest

from lab.backend import Local
from lab.events import Progress


class Fake:
    """Counts how many of its kind run at once."""

    running, most = 0, 0

    def __init__(self, fails: bool = False) -> None:
        self.fails = fails

    def run(self, model, data):
        Fake.running += 1
        Fake.most = max(Fake.most, Fake.running)
        try:
            for i in range(20):
                if self.fails and i == 2:
                    raise RuntimeError("broken")
                yield Progress(i, 20)
        finally:
            Fake.running -= 1


class Place:
    device = "cpu"


@pytest.fixture
def local():
    Fake.running = Fake.most = 0
    return Local()


def test_runs_in_threads_take_turns(local):
    threads = [threading.Thread(target=lambda: list(local.stream(Fake(), Place(), None))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert Fake.most == 1 and not local.busy()


def test_who_waits_is_told_so_and_may_leave(local):
    first = local.stream(Fake(), Place(), None)
    next(first), next(first)
    assert local.busy()
    second = local.stream(Fake(), Place(), None)
    assert "waiting" in next(second).note and "waiting" in next(second).note
    second.close()
    assert local.busy() and Fake.running == 1
    first.close()
    assert not local.busy() and Fake.running == 0


def test_an_error_gives_the_device_back(local):
    with pytest.raises(RuntimeError):
        list(local.stream(Fake(fails=True), Place(), None))
    assert not local.busy()
    assert len(list(local.stream(Fake(), Place(), None))) == 21


def test_a_run_that_nobody_finished_gives_the_device_back(local):
    stream = local.stream(Fake(), Place(), None)
    next(stream), next(stream)
    del stream
    assert not local.busy()
