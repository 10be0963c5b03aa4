"""Deadline of work that reports progress."""

import time
from collections.abc import Callable

import pytest

from cytolora.models.checkpoints.stalls import StalledError, telling, unless_stalled


def test_work_longer_than_the_deadline_goes_on_as_long_as_it_progresses():
    def work(tell: Callable[[], None]) -> str:
        for _ in range(30):
            time.sleep(0.05)
            tell()
        return "done"

    assert unless_stalled(work, seconds=1) == "done"


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
