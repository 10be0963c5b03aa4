"""Room in memory for images that are decoded side by side: small ones together, a large one alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Condition, Lock

MAX_BYTES_TOGETHER = 2**28
"""Of all images that are decoded at one time; an image that needs more is decoded while no other one is."""


class Room:
    """Bytes that threads take before they decode, and give back; asked for in turn, so that nobody waits for ever."""

    def __init__(self, num_bytes: int = MAX_BYTES_TOGETHER) -> None:
        self._num_bytes, self._taken = num_bytes, 0
        self._changed, self._turn = Condition(), Lock()

    def take(self, num_bytes: int) -> None:
        """Waits until so many bytes are free, or all of them where an image needs more than there are."""
        with self._turn, self._changed:
            self._changed.wait_for(lambda: self._taken == 0 or self._taken + num_bytes <= self._num_bytes)
            self._taken += num_bytes

    def give_back(self, num_bytes: int) -> None:
        """Makes room for others."""
        with self._changed:
            self._taken -= num_bytes
            self._changed.notify_all()


class _Holder:
    """What one thread has taken; it never waits while it holds anything, so that two cannot wait for each other."""

    def __init__(self) -> None:
        self._held = 0

    def change(self, num_bytes: int) -> None:
        if self._held:
            _ROOM.give_back(self._held)
            self._held = 0
        if num_bytes:
            _ROOM.take(num_bytes)
            self._held = num_bytes


_ROOM = Room()
_HOLDER: ContextVar[_Holder | None] = ContextVar("holder", default=None)


@contextmanager
def one_image() -> Iterator[None]:
    """Keeps the room that the image decoded inside has taken until the end: its pixels are used, not only made.

    No thread may be waited for inside that decodes images, too: it would wait for this room.
    """
    if _HOLDER.get() is not None:
        yield
        return
    holder = _Holder()
    token = _HOLDER.set(holder)
    try:
        yield
    finally:
        holder.change(0)
        _HOLDER.reset(token)


def take_room(num_bytes: int) -> None:
    """Takes room for an image, in the place of what this ``one_image`` has taken for another; may wait."""
    holder = _HOLDER.get()
    assert holder is not None, "an image is decoded outside of one_image"
    holder.change(num_bytes)
