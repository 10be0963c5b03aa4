"""Atomic and durable writing of files: under a temporary name, flushed to disk, then renamed.

Works without what Windows lacks: open folders, locks on what is being written, renames of what is open.
"""

import errno
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cytolora.core import locks, unfinished

_RENAME_SECONDS = 2.0
"""How long a rename is tried again while another program has the file or folder open, which Windows refuses."""


def canonical_json(value: Any) -> str:
    """Serialises plain data so that equal values give equal text: sorted keys, no blanks."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def sha256_text(text: str) -> str:
    """Returns the SHA-256 of a text's UTF-8 bytes, 64 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def sha256_file(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_bytes(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Writes a file whole or not at all; one that is a symbolic link is written where it leads.

    Args:
        durable: False leaves flushing to the system: a power cut may tear the file. For what has a checksum of its
            own and can be made anew.
    """
    path = link_target(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished.sweep_once(path.parent)
    with _new_file(path) as (descriptor, _), open(descriptor, "wb", closefd=False) as file:
        file.write(content)
        file.flush()
        if durable:
            os.fsync(descriptor)
    if durable:
        sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 text file whole or not at all."""
    write_bytes(path, text.encode())


def json_bytes(value: Any) -> bytes:
    """Serialises plain data as readable, sorted JSON; NaN and infinity are refused."""
    return (json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n").encode()


def write_json(path: Path, value: Any) -> None:
    """Writes readable, sorted JSON whole or not at all; NaN and infinity are refused."""
    write_bytes(path, json_bytes(value))


@contextmanager
def staged_file(target: Path, *, durable: bool = True) -> Iterator[Path]:
    """Yields a path to write to, which becomes ``target`` when the block ends well; for what outgrows ``write_bytes``.

    An existing ``target`` is replaced, or what it leads to where it is a symbolic link. If the block raises, nothing of
    it stays.

    Args:
        durable: See ``write_bytes``.
    """
    target = link_target(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished.sweep_once(target.parent)
    with _new_file(target) as (_, path):
        yield path
        if durable:
            sync(path)
    if durable:
        sync_folder(target.parent)


def link_target(path: Path) -> Path:
    """Returns where a symbolic link leads, or would lead; other paths as they are.

    A rename to a link replaces the link itself, and fails where it is one to a folder.
    """
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def refuse_special(target: Path) -> None:
    """Raises an OSError if a device, pipe or socket is there: a rename would put a file in its place, for everybody."""
    if target.exists() and not (target.is_file() or target.is_dir()):
        raise OSError(errno.EINVAL, "It is a device, pipe or socket", str(target))


@contextmanager
def _new_file(target: Path) -> Iterator[tuple[int, Path]]:
    """Yields descriptor and path of an empty file that becomes ``target`` when the block ends well."""
    refuse_special(target)
    descriptor, path = unfinished.begin_file(target)
    try:
        try:
            yield descriptor, path
            if locks.can_lock_unfinished():
                rename(os.replace, path, target)  # while it is open, and so locked
        finally:
            os.close(descriptor)
        if not locks.can_lock_unfinished():  # Windows renames what is closed
            rename(os.replace, path, target)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(path)
        raise


def rename(step: Callable[[Path, Path], object], source: Path, target: Path) -> None:
    """Renames a file or folder by ``step``; on Windows tries again while another program has one of them open."""
    until = time.monotonic() + _RENAME_SECONDS
    while True:
        try:
            step(source, target)
            return
        except PermissionError as error:
            if locks.can_lock_unfinished():  # as on all systems that rename what is open
                raise
            if time.monotonic() > until:
                why = "Another program has it open, or it may not be written; close it there and try again"
                raise PermissionError(error.errno, why, str(target)) from error
            time.sleep(_RENAME_SECONDS / 40)


def sync(path: Path) -> None:
    """Flushes a file, or the entries of a folder, to disk."""
    if path.is_dir():
        return sync_folder(path)
    try:
        file = path.open("r+b")  # Windows flushes only what is open for writing
    except PermissionError:  # a copy of a file that may only be read
        file = path.open("rb")
    with file:
        try:
            os.fsync(file.fileno())
        except OSError as error:
            if error.errno != errno.EBADF or file.writable():
                raise


def sync_folder(path: Path) -> None:
    """Flushes the entries of a folder to disk: what was made, renamed and removed in it."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # Windows opens no folder, and writes its entries by itself
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
