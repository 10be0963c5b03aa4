"""Log of requests as JSON lines, written by a thread of its own: a reader that stalls holds up no request."""

import json
import logging
import os
import select
import stat
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Condition, Thread
from typing import Any

from cytolora.core.text import counted
from cytolora.data.own_files import REQUEST_LOG
from cytolora.data.targets import check_replaceable_file
from cytolora.errors import ConfigError

_log = logging.getLogger(__name__)

_MAX_WAITING = 10_000
"""Requests that wait to be written, at most; about 5 MB."""
_FLUSH_SECONDS = 5.0
"""For what waits to be written when the service ends."""
_TELL_SECONDS = 1.0
"""For a warning to be written; standard error may stall as well."""


class RequestLog:
    """Takes rows without waiting, and writes each as a line of JSON; what finds no room, or no disk, is counted."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        """Takes what writes a line with its end, and may wait for as long as it likes."""
        self._write = write
        self._rows: deque[dict[str, Any]] = deque()
        self._changed = Condition()
        self._is_writing = False
        self._thread: Thread | None = None
        self.num_dropped = 0
        """Rows that were not written."""

    def __call__(self, row: dict[str, Any]) -> None:
        """Takes a row."""
        with self._changed:
            if len(self._rows) >= _MAX_WAITING:
                self._drop(f"{_MAX_WAITING:,} lines wait to be written")
                return
            self._rows.append(row)
            self._changed.notify_all()
            if self._thread is None:
                self._thread = Thread(target=self._write_all, name="cytolora-request-log", daemon=True)
                self._thread.start()

    def flush(self) -> bool:
        """Waits some seconds until all rows are written; returns whether they are, and counts those that are not."""
        seconds = _FLUSH_SECONDS
        with self._changed:
            if self._changed.wait_for(lambda: not self._rows and not self._is_writing, seconds):
                return True
            left = len(self._rows) + self._is_writing
            self._rows.clear()
            self.num_dropped += left
        text = "%s of the request log could not be written within %g s."
        _tell(text, counted(left, "line"), seconds).join(_TELL_SECONDS)
        return False

    def _write_all(self) -> None:
        while True:
            with self._changed:
                self._is_writing = False
                self._changed.notify_all()
                self._changed.wait_for(lambda: self._rows)
                row, self._is_writing = self._rows.popleft(), True
            try:
                self._write(json.dumps(row).encode() + b"\n")
            except OSError as error:
                with self._changed:
                    self._drop(str(error.strerror or error))

    def _drop(self, why: str) -> None:
        self.num_dropped += 1
        if self.num_dropped == 1:  # one warning; /metrics has the number
            _tell("Lines of the request log are dropped: %s. /metrics counts them.", why)


def _tell(text: str, *values: Any) -> Thread:
    """Warns from a thread of its own: standard error may be the pipe that stalls."""
    telling = Thread(target=_log.warning, args=(text, *values), daemon=True)
    telling.start()
    return telling


def request_log(path: Path | None) -> Callable[[dict[str, Any]], None]:
    """Returns what writes a request as a line of JSON to the end of a file, which may be moved away meanwhile.

    Args:
        path: ``-`` is standard output; None writes nothing.

    Raises:
        ConfigError: If the file cannot be written, is a file of another kind, or is an option that stands where a file
            was forgotten.
    """
    if path is None:
        return lambda row: None
    if str(path) == "-":
        return RequestLog(_standard_output())
    if str(path).startswith("-"):
        raise ConfigError(
            f"--request-log takes a file, or - for standard output, got {path}. For such a name: ./{path}."
        )
    file = _LogFile(path)
    try:
        if path.is_file():  # no FIFO, no device
            check_replaceable_file(path, REQUEST_LOG, option="--request-log")
        file.check()
    except OSError as error:
        raise ConfigError(f"--request-log: cannot write {path}: {error.strerror or error}.") from error
    return RequestLog(file.write)


def _standard_output() -> Callable[[bytes], None]:
    """Writes past Python's buffers: whoever waits there holds a lock that the end of the process needs."""
    try:
        number = os.dup(sys.stdout.fileno())
    except (OSError, ValueError):  # none of the system, as in a notebook

        def write(line: bytes) -> None:
            sys.stdout.write(line.decode())
            sys.stdout.flush()

        return write
    return _Lines(number).write


class _Lines:
    """Whole lines into an open file, pipe or terminal."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._is_torn = False
        """Whether part of a line was written last."""

    def write(self, line: bytes) -> None:
        left = b"\n" + line if self._is_torn else line
        while left:
            try:
                num_written = os.write(self.number, left)
            except BlockingIOError:  # whoever opened it does not want to wait, but this thread may
                select.select([], [self.number], [])
                continue
            left = left[num_written:]
            self._is_torn = bool(left)


class _LogFile:
    """A file that is opened where it is needed: anew once it was moved away, and a FIFO when somebody reads it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: _Lines | None = None

    def check(self) -> None:
        """Raises an OSError if it cannot be written; does not wait for the reader of a FIFO."""
        with suppress(FileNotFoundError):
            if stat.S_ISFIFO(self._path.stat().st_mode):
                if not os.access(self._path, os.W_OK):
                    raise PermissionError(None, "Permission denied")
                return
        self._lines = self._opened()

    def write(self, line: bytes) -> None:
        """Writes a line with its end.

        Raises:
            OSError: If that fails; the next line is tried anew.
        """
        if self._lines is None or self._is_moved(self._lines.number):
            self._close()
            self._lines = self._opened()
        try:
            self._lines.write(line)
        except BrokenPipeError:  # the reader of a FIFO has gone; the next one is waited for
            self._close()
            raise

    def _opened(self) -> _Lines:
        return _Lines(os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666))

    def _is_moved(self, number: int) -> bool:
        own = os.fstat(number)
        try:
            there = self._path.stat()
        except FileNotFoundError:
            return True
        return (own.st_dev, own.st_ino) != (there.st_dev, there.st_ino)

    def _close(self) -> None:
        if self._lines is not None:
            with suppress(OSError):
                os.close(self._lines.number)
        self._lines = None
