"""Deadline for work that reports progress: it is left once nothing has come for too long."""

from collections.abc import Callable
from threading import Event, Thread
from time import monotonic
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")


class StalledError(Exception):
    """No progress came in time."""


class _Attempt(Generic[Result]):
    """Work in a thread of its own; a thread that hangs in a socket cannot be ended, only left."""

    def __init__(self, work: Callable[[Callable[[], None]], Result]) -> None:
        self._work = work
        self._results: list[Result] = []
        self._errors: list[BaseException] = []
        self.ended = Event()
        self.last_progress = monotonic()
        Thread(target=self._run, name="cytolora-download", daemon=True).start()

    def _run(self) -> None:
        try:
            self._results.append(self._work(self._tell))
        except BaseException as error:
            self._errors.append(error)
        finally:
            self.ended.set()

    def _tell(self) -> None:
        self.last_progress = monotonic()

    def result(self) -> Result:
        if self._errors:
            raise self._errors[0]
        return self._results[0]


def unless_stalled(work: Callable[[Callable[[], None]], Result], *, seconds: float) -> Result:
    """Returns what the work returns, or raises what it raises.

    Args:
        work: Takes the function that it calls at every progress.
        seconds: Longest time without progress.

    Raises:
        StalledError: If no progress came for that long.
    """
    attempt = _Attempt(work)
    while not attempt.ended.wait(max(0.0, attempt.last_progress + seconds - monotonic())):
        if monotonic() - attempt.last_progress >= seconds:
            raise StalledError
    return attempt.result()


def telling(bar: type[Any], tell: Callable[[], None]) -> type[Any]:
    """Returns a progress bar's class that tells of every update, besides what it does."""

    class Telling(bar):
        def update(self, n: float | None = 1) -> bool | None:
            tell()
            return super().update(n)

    return Telling
