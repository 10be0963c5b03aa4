"""Turns of slow work of an open project: each kind runs once at a time, and a second one is refused."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from cytolora.errors import ConfigError


class UnderWayError(ConfigError):
    """Work that was asked for while it is being done."""


class Turn:
    """One kind of work; whether it runs is asked and noted in one step."""

    def __init__(self, refusal: str) -> None:
        """Runs nothing yet.

        Args:
            refusal: Sentence for who asks for it while it runs.
        """
        self._lock, self._refusal = Lock(), refusal

    def take(self) -> None:
        """Begins it; ``give_back`` ends it, in any thread.

        Raises:
            UnderWayError: If it runs.
        """
        if not self._lock.acquire(blocking=False):
            raise UnderWayError(self._refusal)

    def give_back(self) -> None:
        """Ends it."""
        self._lock.release()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Does it in a block; raises as ``take``."""
        self.take()
        try:
            yield
        finally:
            self.give_back()
