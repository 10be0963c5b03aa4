"""Entries of a cache folder by kind: listing, and removal of the least recently used.

An entry is a file, of archives a folder, whose name is of the form that this package writes, in a cache that bears its
mark; where there is none, a file that begins with a checksum. Whatever else lies in a cache folder is neither counted
nor removed. The time of change of an entry is that of its last use.
"""

import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cytolora.core import locks
from cytolora.core.checksum import has_checksum
from cytolora.core.files import write_bytes
from cytolora.core.unfinished import sweep_below, temporary_name

ARCHIVES = "archives"
KINDS = {
    "pixels": "decoded images and views of them",
    "features": "frozen features",
    "adapters": "trained adapters of fit",
    "text": "embeddings of class names",
    "intervals": "metrics and intervals of stored runs",
    "metadata": "metrics by stain, scanner, …",
    "figures": "drawings of reports",
    ARCHIVES: "unpacked zip files",
}
"""What is kept, by the name of its folder within a cache."""

_HASH = "[0-9a-f]"
_NAMES = {
    "pixels": rf"pillow-[\w.+-]+/(native|{_HASH}{{16}})/{_HASH}{{2}}/{_HASH}{{64}}",
    "features": rf"{_HASH}{{32}}/{_HASH}{{32}}\.shard|{_HASH}{{32}}\.safetensors",
    "adapters": rf"{_HASH}{{32}}\.safetensors",
    "text": rf"{_HASH}{{32}}(-{_HASH}{{16}})?\.safetensors",
    "intervals": rf"{_HASH}{{16,64}}\.json",
    "metadata": rf"{_HASH}{{16,64}}\.json",
    "figures": rf"{_HASH}{{64}}/drawing\.(svg|png|\dcol\.pdf)",
    ARCHIVES: rf"{_HASH}{{16}}",
}
"""Of entries within the folder of their kind; those of earlier versions too."""

_MARK = ".cytolora-cache"
"""The file that tells a cache of this package from a folder of the user's with files of like names."""
_MARK_TEXT = b"Values that cytolora can compute anew: this folder may be deleted at any time.\n"
_HEAD_BYTES = 24
"""Of a file, as many as tell whether it begins with a checksum."""

_FULL, _ROOM = 0.95, 0.9
"""Shares of the limit: from where on entries are removed, and to where."""
_MAX_TRIES = 5
"""How often an archive may be replaced before it is held."""

_held: dict[Path, int] = {}
"""Open descriptors of archives that this process uses, until it ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A value that is kept."""

    kind: str
    path: Path
    num_bytes: int
    last_used: float
    """Seconds since 1970."""


def claim(root: Path, *, is_ours: bool = False) -> None:
    """Marks a folder as a cache of this package, unless it holds what looks like entries and may be the user's own.

    Args:
        is_ours: Looks at nothing: for the user's cache folder.
    """
    if is_marked(root):
        return
    if is_ours or all(entry.path in _held or _is_checksummed(entry) for entry in _named(root, KINDS)):
        with suppress(OSError):  # nothing may be written here: nothing can be removed either
            write_bytes(root / _MARK, _MARK_TEXT, durable=False)


def is_marked(root: Path) -> bool:
    """Whether a folder is known for a cache of this package."""
    return (root / _MARK).is_file()


def entries(root: Path, kinds: Iterable[str] = KINDS) -> Iterator[Entry]:
    """Yields the entries of a cache in no order; those that another process removes meanwhile are left out."""
    found = _named(root, kinds)
    return found if is_marked(root) else (entry for entry in found if _is_checksummed(entry))


def _named(root: Path, kinds: Iterable[str]) -> Iterator[Entry]:
    """Yields what is named like an entry."""
    for kind in kinds:
        folder, name = root / kind, re.compile(_NAMES[kind])
        if folder.is_symlink():
            continue
        start = len(str(folder)) + 1  # pathlib takes ten times as long
        for found in _listed(folder) if kind == ARCHIVES else _files(folder):
            if name.fullmatch(found.path[start:].replace(os.sep, "/")):
                with suppress(FileNotFoundError):
                    yield _entry(kind, found)


def _is_checksummed(entry: Entry) -> bool:
    if entry.kind == ARCHIVES:
        return False
    try:
        with entry.path.open("rb") as file:
            return has_checksum(file.read(_HEAD_BYTES))
    except OSError:
        return False


def is_empty(folder: Path) -> bool:
    """Whether this is a folder that holds no file, but perhaps empty folders."""
    return folder.is_dir() and not folder.is_symlink() and not any(True for _ in _files(folder, hidden=True))


def mark_used(path: Path) -> None:
    """Makes an entry the most recently used one; nothing where the folder may only be read."""
    with suppress(OSError):
        os.utime(path)


def remove(entry: Entry) -> bool:
    """Removes an entry; False if it is in use, or may not be removed."""
    try:
        _remove_archive(entry.path) if entry.kind == ARCHIVES else entry.path.unlink()
    except FileNotFoundError:  # another process was faster
        return True
    except OSError:
        return False
    return True


def remove_abandoned(root: Path) -> None:
    """Removes what killed processes had begun to write; what a living one writes is locked, and stays."""
    for kind in KINDS:
        if not (root / kind).is_symlink():
            sweep_below(root / kind)


def remove_least_used(root: Path, limit: int, *, spares_last: bool = False) -> int:
    """Removes the least recently used entries of a cache that nears its limit; returns the bytes that are in use.

    What is in use counts, and stays: the others share what it leaves of the limit.

    Args:
        spares_last: Leaves the entry that was used last, however little room what is in use leaves.
    """
    found = sorted(entries(root), key=lambda entry: entry.last_used)
    if sum(entry.num_bytes for entry in found) <= limit * _FULL:
        return 0
    in_use = {entry.path: entry.num_bytes for entry in found if entry.kind == ARCHIVES and _is_locked(entry.path)}
    others = [entry for entry in found if entry.path not in in_use]
    total, room = sum(entry.num_bytes for entry in others), max(0, limit - sum(in_use.values()))
    if total > room * _FULL:
        for entry in others[:-1] if spares_last and in_use else others:
            if total <= room * _ROOM:
                break
            if remove(entry):
                total -= entry.num_bytes
    return sum(in_use.values())


def hold(archive: Path) -> bool:
    """Keeps an unpacked archive from being removed as long as this process lives; False if it is not there."""
    if archive in _held:
        if _is_open_as(_held[archive], archive):
            return True
        os.close(_held.pop(archive))
    if not locks.can_lock_unfinished():  # where folders cannot be locked, no archive is removed either
        return archive.is_dir()
    for _ in range(_MAX_TRIES):
        try:
            descriptor = os.open(archive, os.O_RDONLY)
        except FileNotFoundError:
            return False
        locks.share(descriptor)
        if _is_open_as(descriptor, archive):
            _held[archive] = descriptor
            mark_used(archive)
            if archive.parent.name == ARCHIVES:
                claim(archive.parent.parent)
            return True
        os.close(descriptor)  # removed or replaced before it was locked
    return False


def _is_open_as(descriptor: int, path: Path) -> bool:
    """Whether a path leads to what is open; not to another folder that took its name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def _is_locked(folder: Path) -> bool:
    """Whether a living process holds an archive, or nothing can be locked here."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return False
    try:
        locks.acquire_now(descriptor)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _remove_archive(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        locks.acquire_now(descriptor)
        aside = temporary_name(folder)  # swept where this is killed
        folder.rename(aside)
        try:
            shutil.rmtree(aside)
        except OSError:
            with suppress(OSError):  # it is unpacked again already
                aside.rename(folder)  # where it is counted
            raise
    finally:
        os.close(descriptor)


def _entry(kind: str, found: os.DirEntry[str]) -> Entry:
    about = found.stat(follow_symlinks=False)
    inside = _files(found.path) if kind == ARCHIVES else ()
    size = sum(one.stat(follow_symlinks=False).st_size for one in inside) if kind == ARCHIVES else about.st_size
    return Entry(kind=kind, path=Path(found.path), num_bytes=size, last_used=about.st_mtime)


def _listed(folder: Path, *, hidden: bool = False) -> Iterator[os.DirEntry[str]]:
    """Yields the folders in a folder."""
    with suppress(FileNotFoundError, NotADirectoryError, PermissionError), os.scandir(folder) as listing:
        for found in listing:
            if found.is_dir(follow_symlinks=False) and (hidden or not found.name.startswith(".")):
                yield found


def _files(folder: Path | str, *, hidden: bool = False) -> Iterator[os.DirEntry[str]]:
    """Yields the files below a folder, following no links."""
    with suppress(FileNotFoundError, NotADirectoryError, PermissionError), os.scandir(folder) as listing:
        for found in listing:
            if found.name.startswith(".") and not hidden:
                continue
            if found.is_dir(follow_symlinks=False):
                yield from _files(found.path, hidden=hidden)
            elif found.is_file(follow_symlinks=False):
                yield found


def older(found: Iterable[Entry], seconds: float) -> list[Entry]:
    """Returns the entries that were last used so long ago."""
    now = time.time()
    return [entry for entry in found if now - entry.last_used >= seconds]
