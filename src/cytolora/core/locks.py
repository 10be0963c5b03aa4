"""File locks of the operating system: flock on Linux and macOS, byte-range locks on Windows, elsewhere none."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

fcntl: ModuleType | None = None
msvcrt: ModuleType | None = None
with suppress(ImportError):
    import fcntl
with suppress(ImportError):
    import msvcrt

_FAR_BYTE = 2**31 - 2
"""Position of the byte that Windows locks, beyond any content: others could not read what is locked."""
_RETRY_SECONDS = 0.01


def can_lock_unfinished() -> bool:
    """Returns whether files and folders can be locked while they are written; Windows renames only closed ones."""
    return fcntl is not None


def acquire(descriptor: int) -> None:
    """Waits for the exclusive lock of an open file, which ends when it is closed.

    On a file system or platform without locks it returns at once.
    """
    if fcntl is not None:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
    elif msvcrt is not None:
        while not _locked_byte(descriptor):
            time.sleep(_RETRY_SECONDS)


def share(descriptor: int) -> None:
    """Waits for a lock of an open file or folder that several processes may hold at once, but none with another one.

    On a file system or platform without locks it returns at once.
    """
    if fcntl is not None:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_SH)


def acquire_now(descriptor: int) -> None:
    """Takes the exclusive lock of an open file or folder.

    Raises:
        OSError: If another process holds it, or nothing can be locked here.
    """
    if fcntl is None:
        raise OSError("No lock of files and folders that are being written on this platform")
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _locked_byte(descriptor: int) -> bool:
    """Locks the byte on Windows; False while another process has it."""
    assert msvcrt is not None
    os.lseek(descriptor, _FAR_BYTE, os.SEEK_SET)  # of a lock file, which nobody reads or writes
    try:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    except PermissionError:  # EACCES: held by another process
        return False
    except OSError:  # a file system without locks
        return True
    return True


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Waits until no other process or thread is in a block with the same lock file; not to be nested.

    On a file system without locks the block is entered at once.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        acquire(descriptor)
        yield
    finally:
        os.close(descriptor)
