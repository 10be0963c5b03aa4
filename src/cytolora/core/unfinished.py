"""Unfinished files and folders: a temporary name, a lock while they are written, removal once their process is gone."""

import hashlib
import os
import platform
import re
import secrets
import shutil
import time
from contextlib import suppress
from pathlib import Path

from cytolora.core import locks

_PREFIX = ".cytolora-staging-"
_NAME = re.compile(re.escape(_PREFIX) + r".*-[a-z0-9]{8}")
_EARLIER_NAME = re.compile(r"\.staging-.+-[a-z0-9_]{8}")
"""Of earlier versions; a user's own file may be named like that, and so it counts in stores and caches only."""
_MAX_NAME_BYTES = 100
_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:4]
"""Stands in every name: on some shared file systems a lock is known on the machine alone that took it."""
_ABANDONED_SECONDS = 86_400
"""Age at which unfinished work counts as that of a killed process, where no lock tells: none is known, or it is that of
another machine."""

_swept: set[Path] = set()
"""Folders that this process has swept."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_swept.clear)


def temporary_name(target: Path) -> Path:
    """Draws a path beside ``target`` to write it to: not longer than a name may be, for that of ``target`` is cut."""
    name = os.fsencode(target.name)[:_MAX_NAME_BYTES].decode(errors="ignore")
    return target.parent / f"{_PREFIX}{name}-{_HOST}{secrets.token_hex(2)}"


def begin_file(target: Path) -> tuple[int, Path]:
    """Makes an empty file beside ``target``, locked as long as the descriptor is open; the umask says who reads it."""
    while True:
        path = temporary_name(target)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        except FileExistsError:
            continue
        if not locks.can_lock_unfinished():
            return descriptor, path
        locks.acquire(descriptor)
        if os.fstat(descriptor).st_nlink:  # not taken for unfinished before it was locked
            return descriptor, path
        os.close(descriptor)


def begin_folder(target: Path) -> tuple[int | None, Path]:
    """Makes an empty folder beside ``target``, locked as long as the descriptor is open; None: locks are not known."""
    while True:
        path = temporary_name(target)
        try:
            path.mkdir()
        except FileExistsError:
            continue
        if not locks.can_lock_unfinished():
            return None, path
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:  # taken for unfinished before it was locked
            continue
        except OSError:
            path.rmdir()
            raise
        locks.acquire(descriptor)
        if path.exists():
            return descriptor, path
        os.close(descriptor)


def sweep(folder: Path, *, is_ours: bool = False) -> None:
    """Removes what killed processes had begun to write in ``folder``; what a living one writes is locked: it stays.

    Args:
        is_ours: Whether it is a store or part of a cache, where leftovers of earlier versions are removed too.
    """
    names = (_NAME, _EARLIER_NAME) if is_ours else (_NAME,)
    with suppress(OSError):
        for path in [path for path in folder.iterdir() if any(name.fullmatch(path.name) for name in names)]:
            _remove_unlocked(path)


def sweep_once(folder: Path) -> None:
    """Like ``sweep``, the first time that this process writes there: for folders of many small files."""
    if folder not in _swept:
        _swept.add(folder)
        sweep(folder)


def sweep_below(folder: Path) -> None:
    """Like ``sweep`` for a folder of a store or cache, and all folders in it."""
    for path, _, _ in os.walk(folder):
        sweep(Path(path), is_ours=True)


def _remove_unlocked(path: Path) -> None:
    with suppress(OSError):  # gone, locked, or (on Windows) open
        is_told = locks.can_lock_unfinished() and path.name[-8:-4] == _HOST
        if not is_told and _newest_change(path) >= time.time() - _ABANDONED_SECONDS:
            return
        if not locks.can_lock_unfinished():
            return _remove(path)
        descriptor = os.open(path, os.O_RDONLY)
        try:
            locks.acquire_now(descriptor)
            _remove(path)
        finally:
            os.close(descriptor)


def _newest_change(path: Path) -> float:
    return max(part.stat().st_mtime for part in (path, *path.rglob("*")))


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()
