"""Deadline of work that reports progress."""

import time
from collections.abc import Callable

import pytest

from cytolora.models.checkpoints import stalls
from cytolora.models.checkpoints.stalls import StalledError, telling, unless_stalled


def test_work_longer_than_the_deadline_goes_on_as_long_as_it_progresses(monkeypatch: pytest.MonkeyPatch):
    """By a clock that passes when it is told to: a busy machine pauses for longer than any deadline of a test."""
    now = [0.0]
    monkeypatch.setattr(stalls, "monotonic", lambda: now[0])

    def work(tell: Callable[[], None]) -> str:
        for _ in range(20):
            now[0] += 0.04
            time.sleep(0.01)  # meanwhile the deadline is looked at
            tell()
        return "done"

    assert unless_stalled(work, seconds=0.05) == "done"


@pytest.mark.parametrize("num_told", [0, 3])
def test_work_that_stops_progressing_is_left(num_told: int):
    def work(tell: Callable[[], None]) -> None:
        for _ in range(num_told):
            tell()
        time.sleep(20)

    start = time.monotonic()
    with pytest.raises(StalledError):
        unless_stalled(work, seconds=0.3)
    assert time.monotonic() - start < 10


def test_an_error_of_the_work_is_raised():
    def work(tell: Callable[[], None]) -> None:
        raise KeyError("of the work")

    with pytest.raises(KeyError, match="of the work"):
        unless_stalled(work, seconds=10)


def test_a_bar_tells_of_every_update_and_stays_what_it_is():
    told = []

    class Bar:
        n = 0.0

        def update(self, n: float | None = 1) -> bool | None:
            self.n += n or 0
            return None

    bar = telling(Bar, lambda: told.append(1))()
    bar.update(5)
    bar.update(2)
    assert (bar.n, len(told)) == (7, 2)
