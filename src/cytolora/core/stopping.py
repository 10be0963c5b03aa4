"""Stop requests by signal: long work ends where little is lost.

After SIGUSR1, which batch systems send near a time limit, work ends at the next of its boundaries
(``stop_if_asked``): between two runs, or after a step whose state was written. Work that comes to none in time is
interrupted where it is. SIGTERM interrupts at once. Either way claims are released, and the command ends with an exit
code of its own.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, current_thread, main_thread
from types import FrameType

STOPPED_EARLY = 75
"""Exit code after SIGUSR1: the same command goes on (EX_TEMPFAIL of sysexits.h)."""
_TERMINATED = 128 + 15
_GRACE_SECONDS = 60.0
"""From SIGUSR1 until work that came to no boundary is interrupted."""

_asked = Event()


class StoppedError(KeyboardInterrupt):
    """The command was asked to stop; as with Ctrl-C, no handler of errors takes it for one."""

    def __init__(self, exit_code: int = STOPPED_EARLY) -> None:
        super().__init__("stopped by a signal")
        self.exit_code = exit_code


def ask() -> None:
    """Has work of this process end at its next boundary."""
    _asked.set()


def is_asked() -> bool:
    """Whether work is to end at its next boundary."""
    return _asked.is_set()


def stop_if_asked() -> None:
    """Marks a boundary of long work.

    Raises:
        StoppedError: If the command was asked to stop.
    """
    if _asked.is_set():
        raise StoppedError


@contextmanager
def heeding_signals(grace_seconds: float = _GRACE_SECONDS) -> Iterator[None]:
    """Lets SIGUSR1 and SIGTERM end the block; without effect on Windows and beside the main thread."""
    if not hasattr(signal, "SIGUSR1") or current_thread() is not main_thread():
        yield
        return

    def request(number: int, frame: FrameType | None) -> None:
        if not _asked.is_set():
            ask()
            signal.setitimer(signal.ITIMER_REAL, grace_seconds)

    def stop(number: int, frame: FrameType | None) -> None:
        raise StoppedError(_TERMINATED if number == signal.SIGTERM else STOPPED_EARLY)

    handlers = {signal.SIGUSR1: request, signal.SIGALRM: stop, signal.SIGTERM: stop}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)  # None: it was no handler of Python
        _asked.clear()
