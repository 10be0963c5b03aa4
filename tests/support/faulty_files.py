"""A file layer that fails at one chosen step: a full disk, a broken one, a short write, a crash, a power cut.

Patches what Python writes files with (``open``, ``os.open``, ``os.fsync``, renames, ``mkdir``, and the writes of opened
files) below one folder, in this process. A crash raises ``Crash`` and from then on changes nothing any more: what runs
on the way out finds a disk that it can no longer reach, as if the process were gone. Libraries that write by themselves
are only seen where we flush and rename what they wrote.
"""

import builtins
import errno
import io
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

import pytest

Fault = Literal["full", "broken", "short", "torn", "crash before", "crash after", "power cut"]
FAULTS: tuple[Fault, ...] = ("full", "broken", "short", "torn", "crash before", "crash after", "power cut")
"""``short`` writes half and says so; ``torn`` writes half and fails. ``power cut`` crashes after the step and tears
every file that was not flushed."""


class Crash(BaseException):
    """The end of the process, as far as the disk can tell."""


_io_open, _os_open, _fsync = io.open, os.open, os.fsync
_WRITES = set("wax+")


@dataclass(frozen=True, kw_only=True)
class Step:
    """One call that changes the disk."""

    call: str
    path: str

    def __str__(self) -> str:
        return f"{self.call} {Path(self.path).name}"


class FaultyFiles:
    """Counts the steps below a folder, and fails at one of them."""

    def __init__(self, root: Path, *, at: int | None = None, fault: Fault = "full") -> None:
        """Fails at step ``at``, counted from 0; None lets all pass."""
        self._root, self._at, self._fault = os.path.realpath(root), at, fault
        self._flushed: set[tuple[int, int, int]] = set()
        self._is_dead = False
        self.steps: list[Step] = []

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Takes the place of the system's calls for the block."""
        for path in Path(self._root).rglob("*"):
            self._note_flushed(path)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(builtins, "open", self._opened)
            patch.setattr(io, "open", self._opened)
            patch.setattr(os, "open", self._os_opened)
            patch.setattr(os, "fsync", self._synced)
            for name, position in (("rename", 1), ("replace", 1), ("mkdir", 0)):
                patch.setattr(os, name, self._guarded(name, position, getattr(os, name)))
            for name in ("unlink", "remove", "rmdir", "utime", "chmod"):
                patch.setattr(os, name, self._alive(getattr(os, name)))
            yield

    @property
    def is_dead(self) -> bool:
        """Whether it has crashed."""
        return self._is_dead

    def step(self, call: str, path: Any, act: Callable[[], Any], half: Callable[[], Any] | None = None) -> Any:
        """Does one step, or fails at it."""
        if not self._is_ours(path):
            return act()
        if self._is_dead:
            raise Crash
        number = len(self.steps)
        self.steps.append(Step(call=call, path=str(path)))
        if number != self._at:
            return act()
        match self._fault:
            case "short" if half is not None:
                return half()
            case "torn" if half is not None:
                half()
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            case "full" | "torn" | "short":
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            case "broken":
                raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
            case "crash before":
                self._die()
            case "crash after":
                act()
                self._die()
            case _:
                act()
                self._tear()
                self._die()

    def _die(self) -> NoReturn:
        self._is_dead = True
        raise Crash

    def _alive(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def alive(*arguments: Any, **options: Any) -> Any:
            if self._is_dead:
                raise Crash
            return call(*arguments, **options)

        return alive

    def _is_ours(self, path: Any) -> bool:
        return isinstance(path, str | os.PathLike) and os.path.realpath(path).startswith(self._root + os.sep)

    def _opened(self, file: Any, mode: str = "r", buffering: int = -1, *more: Any, **options: Any) -> Any:
        path = _path_of(file) if isinstance(file, int) else file
        if not _WRITES & set(mode) or not self._is_ours(path) or options.get("opener"):
            return _io_open(file, mode, buffering, *more, **options)
        raw_mode = mode.replace("b", "").replace("t", "")
        layer = self
        create = lambda: _Raw(file, raw_mode, options.get("closefd", True), layer, str(path))  # noqa: E731
        raw = create() if isinstance(file, int) or "r" in mode else self.step("create", path, create)
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        if "b" in mode:
            return buffered
        names = dict(zip(("encoding", "errors", "newline"), more, strict=False)) | options
        return io.TextIOWrapper(buffered, **{k: v for k, v in names.items() if k in ("encoding", "errors", "newline")})

    def _os_opened(self, path: Any, flags: int, *more: Any, **options: Any) -> int:
        if not flags & os.O_CREAT or options.get("dir_fd") is not None:
            return _os_open(path, flags, *more, **options)
        return self.step("create", path, lambda: _os_open(path, flags, *more, **options))

    def _synced(self, descriptor: int) -> None:
        path = _path_of(descriptor)
        self.step("fsync", path, lambda: _fsync(descriptor))
        self._note_flushed(Path(path))

    def _guarded(self, name: str, position: int, call: Callable[..., Any]) -> Callable[..., Any]:
        def guarded(*arguments: Any, **options: Any) -> Any:
            return self.step(name, arguments[position], lambda: call(*arguments, **options))

        return guarded

    def _note_flushed(self, path: Path) -> None:
        with suppress(OSError):
            if path.is_file():
                found = path.stat()
                self._flushed.add((found.st_ino, found.st_size, found.st_mtime_ns))

    def _tear(self) -> None:
        """Halves every file that is not on the disk yet, as the system may after its power was cut."""
        for path in Path(self._root).rglob("*"):
            if path.is_file():
                found = path.stat()
                if (found.st_ino, found.st_size, found.st_mtime_ns) not in self._flushed:
                    os.truncate(path, found.st_size // 2)


class _Raw(io.FileIO):
    def __init__(self, file: Any, mode: str, closefd: bool, layer: FaultyFiles, path: str) -> None:
        super().__init__(file, mode, closefd)
        self._layer, self._where = layer, path

    def write(self, content: Any) -> int:
        view = memoryview(content).cast("B")
        write = super().write
        if self._layer.is_dead:
            return len(view)  # what buffers still hold is lost
        half = max(1, len(view) // 2)
        return self._layer.step("write", self._where, lambda: write(view), lambda: write(view[:half]))


def _path_of(descriptor: int) -> str:
    try:
        return str(Path(f"/proc/self/fd/{descriptor}").readlink())
    except OSError:
        return ""


def choose(moment: random.Random, num_steps: int) -> tuple[int, Fault]:
    """Draws a step and a fault."""
    return moment.randrange(num_steps), moment.choice(FAULTS)
