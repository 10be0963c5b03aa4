"""Atomic and durable writing of files and folders: under a temporary name, flushed to disk, then renamed.

Works without what Windows lacks: open folders, locks on what is being written, renames of what is open.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cytolora.core import locks

_STAGING_PREFIX = ".staging-"
_REPLACED_PREFIX = ".replaced-"
_LOCK = ".lock"
_RANDOM = "[a-z0-9_]{8}"
"""What tempfile ends names with."""
_MAX_REPLACEMENTS = 20
"""How often a folder may be replaced by others while it is being read or replaced."""

_RENAME_SECONDS = 2.0
"""How long a rename is tried again while another program has the file or folder open, which Windows refuses."""
_ABANDONED_SECONDS = 86_400
"""Age at which unfinished work counts as that of a killed process, where no lock tells."""

Version = tuple[int, int, int]
"""Tells a folder from the one that replaced it: device, inode, and time of change, since inodes are used again."""


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
    """Writes a file whole or not at all.

    Args:
        durable: False leaves flushing to the system: a power cut may tear the file. For what has a checksum of its
            own and can be made anew.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _new_file(path) as (descriptor, _), open(descriptor, "wb", closefd=False) as file:
        file.write(content)
        file.flush()
        if durable:
            os.fsync(descriptor)
    if durable:
        _sync_folder(path.parent)


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
def staged_file(target: Path) -> Iterator[Path]:
    """Yields a path to write to, which becomes ``target`` when the block ends well; for what outgrows ``write_bytes``.

    An existing ``target`` is replaced. If the block raises, nothing of it stays.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    remove_unfinished(target)
    with _new_file(target) as (_, path):
        yield path
        _sync(path)
    _sync_folder(target.parent)


@contextmanager
def staged_folder(target: Path) -> Iterator[Path]:
    """Yields an empty folder that becomes ``target`` by rename when the block ends well.

    An existing ``target`` is replaced whole, also where other processes replace it at the same time: the last one
    stays. If the block raises, nothing of it stays.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, staging = _begin_folder(target)
    try:
        yield staging
        os.chmod(staging, 0o755)
        for path in sorted(staging.rglob("*")):
            _sync(path)
        _swap_in(staging, target)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    finally:
        if descriptor is not None:
            os.close(descriptor)


def recover_folders(parent: Path) -> None:
    """Takes back the half-done replacements that a killed process left in ``parent``; removes what it had begun.

    Where nothing may be written, everything is left as it is: what is whole can still be read.
    """
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        return
    for begun in parent.glob(f"{_STAGING_PREFIX}*"):
        _remove_unlocked(begun)
    with suppress(PermissionError), locked(parent / _LOCK):  # Windows tells only now that nothing may be written
        for old in sorted(parent.glob(f"{_REPLACED_PREFIX}*")):
            target = parent / old.name.removeprefix(_REPLACED_PREFIX)
            if target.exists():
                shutil.rmtree(old, ignore_errors=True)
            else:
                with suppress(FileNotFoundError):  # without locks: another process was faster
                    old.rename(target)


def recover_folder(target: Path) -> None:
    """Like ``recover_folders`` for one folder; writes nothing where nothing was left half-done."""
    if _aside(target).exists():
        recover_folders(target.parent)


def folder_names(parent: Path) -> list[str]:
    """Lists the folders and files in ``parent`` that are not hidden, also those that are being replaced; sorted."""
    names: set[str] = set()
    for _ in range(2):  # one listing may miss what is renamed at that moment
        with suppress(FileNotFoundError, NotADirectoryError):
            names |= {path.name.removeprefix(_REPLACED_PREFIX) for path in parent.iterdir()}
    return sorted(name for name in names if not name.startswith("."))


def current_folder(folder: Path) -> Path:
    """Returns the path to read a folder from: where it is set aside if a process was killed while it replaced it.

    Waits for a living process that replaces it. Writes nothing: ``recover_folders`` is for those who write.
    """
    if not folder.exists() and _aside(folder).exists():
        _wait_for_replacement(folder.parent)
        if not folder.exists() and _aside(folder).exists():
            return _aside(folder)
    return folder


def folder_version(folder: Path) -> Version | None:
    """Returns what another folder of this name would differ in; None where there is none."""
    try:
        return _version(current_folder(folder).stat())
    except (FileNotFoundError, NotADirectoryError):
        return None


def read_together(
    folder: Path, names: Iterable[str], *, optional: Iterable[str] = ()
) -> tuple[dict[str, bytes], Version]:
    """Reads files of a folder that other processes may replace: all from one version of it, which is returned too.

    Args:
        optional: Further files, which may be missing; they are then absent from what is returned.

    Raises:
        OSError: If the folder or a file is missing or cannot be read; ``filename`` tells which.
    """
    names = dict.fromkeys(names, True) | dict.fromkeys(optional, False)
    read = _read_open if hasattr(os, "O_DIRECTORY") and os.open in os.supports_dir_fd else _read_by_path
    for _ in range(_MAX_REPLACEMENTS):
        try:
            here = current_folder(folder)
            version = _version(here.stat())
        except FileNotFoundError as error:
            if not folder.exists() and not _aside(folder).exists():
                raise FileNotFoundError(error.errno, error.strerror, str(folder)) from error
            continue  # it came back between two looks
        try:
            files, versions = read(here, names)
        except OSError:
            if folder_version(folder) == version:
                raise
            continue
        if len(versions) == 1:
            return files, versions.pop()
    raise OSError(errno.EBUSY, "Another process is replacing it, or was killed while it did", str(folder))


def _read_open(folder: Path, names: Mapping[str, bool]) -> tuple[dict[str, bytes], set[Version]]:
    """Reads files of a folder that is held open, wherever it is renamed to meanwhile: always of one version."""
    descriptor = os.open(str(folder), os.O_RDONLY | os.O_DIRECTORY)
    try:
        return _read_each(names, lambda name: _read_in(descriptor, name)), {_version(os.fstat(descriptor))}
    finally:
        os.close(descriptor)


def _read_by_path(folder: Path, names: Mapping[str, bool]) -> tuple[dict[str, bytes], set[Version]]:
    """Reads files of a folder where folders cannot be opened; returns its versions before and after."""
    before = _version(folder.stat())
    return _read_each(names, lambda name: (folder / name).read_bytes()), {before, _version(folder.stat())}


def _read_each(names: Mapping[str, bool], read: Callable[[str], bytes]) -> dict[str, bytes]:
    """Reads files by name; the value says whether the file must be there."""
    files = {}
    for name, is_required in names.items():
        try:
            files[name] = read(name)
        except OSError as error:
            if is_required or not isinstance(error, FileNotFoundError):
                error.filename = name
                raise
    return files


def _read_in(descriptor: int, name: str) -> bytes:
    with open(name, "rb", opener=lambda path, flags: os.open(path, flags, dir_fd=descriptor)) as file:
        return file.read()


def _wait_for_replacement(parent: Path) -> None:
    """Waits until no living process replaces a folder in ``parent``."""
    time.sleep(0.001)  # on a file system without locks
    with suppress(OSError):  # no lock file: no process is at work
        descriptor = os.open(parent / _LOCK, os.O_RDONLY)
        try:
            locks.acquire(descriptor)
        finally:
            os.close(descriptor)


def _version(found: os.stat_result) -> Version:
    return found.st_dev, found.st_ino, found.st_mtime_ns


def remove_unfinished(target: Path) -> None:
    """Removes what killed processes had begun to write for ``target``; what a living one writes is locked: it stays."""
    begun = re.compile(re.escape(f"{_STAGING_PREFIX}{target.name}-") + _RANDOM)
    with suppress(OSError):
        for path in [one for one in target.parent.iterdir() if begun.fullmatch(one.name)]:
            _remove_unlocked(path)


def _remove_unlocked(path: Path) -> None:
    with suppress(OSError):  # gone, locked, or (on Windows) open
        if not locks.can_lock_unfinished():
            if _newest_change(path) < time.time() - _ABANDONED_SECONDS:
                _remove(path)
            return
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


@contextmanager
def _new_file(target: Path) -> Iterator[tuple[int, Path]]:
    """Yields descriptor and path of an empty file that becomes ``target`` when the block ends well."""
    descriptor, path = _begin_file(target)
    try:
        try:
            yield descriptor, path
            os.chmod(path, 0o644)  # mkstemp makes it private; results are meant to be read
            if locks.can_lock_unfinished():
                _rename(os.replace, path, target)  # while it is open, and so locked
        finally:
            os.close(descriptor)
        if not locks.can_lock_unfinished():  # Windows renames what is closed
            _rename(os.replace, path, target)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(path)
        raise


def _begin_file(target: Path) -> tuple[int, Path]:
    """Makes an empty file beside ``target``, locked as long as the descriptor is open."""
    while True:
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f"{_STAGING_PREFIX}{target.name}-")
        if not locks.can_lock_unfinished():
            return descriptor, Path(name)
        locks.acquire(descriptor)
        if os.fstat(descriptor).st_nlink:  # not taken for unfinished before it was locked
            return descriptor, Path(name)
        os.close(descriptor)


def _begin_folder(target: Path) -> tuple[int | None, Path]:
    """Makes an empty folder beside ``target``, locked as long as the descriptor is open; None: locks are not known."""
    while True:
        staging = Path(tempfile.mkdtemp(dir=target.parent, prefix=f"{_STAGING_PREFIX}{target.name}-"))
        if not locks.can_lock_unfinished():
            return None, staging
        with suppress(FileNotFoundError):
            descriptor = os.open(staging, os.O_RDONLY)
            locks.acquire(descriptor)
            if staging.exists():
                return descriptor, staging
            os.close(descriptor)


def _rename(rename: Callable[[Path, Path], object], source: Path, target: Path) -> None:
    """Renames a file or folder; tries again while another program has one of them open."""
    until = time.monotonic() + _RENAME_SECONDS
    while True:
        try:
            rename(source, target)
            return
        except PermissionError as error:
            if time.monotonic() > until:
                why = "Another program has it open, or it may not be written; close it there and try again"
                raise PermissionError(error.errno, why, str(target)) from error
            time.sleep(_RENAME_SECONDS / 40)


def _swap_in(staging: Path, target: Path) -> None:
    """Renames ``staging`` to ``target``; folders cannot be exchanged in one step, so the old one steps aside first."""
    if not target.exists() and not _aside(target).exists():
        try:
            _rename(os.rename, staging, target)
            return _sync_folder(target.parent)
        except OSError:  # another process was faster: replace its folder, as if it had been there before
            pass
    with locked(target.parent / _LOCK):
        for left in reversed(range(_MAX_REPLACEMENTS)):
            try:
                _step_in(staging, target)
                break
            except OSError as error:
                # a new folder is renamed to where there was none without a lock, and some file systems know no locks
                if not left or error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOENT):
                    raise
        _sync_folder(target.parent)
        shutil.rmtree(_aside(target), ignore_errors=True)  # locked: or it would be the next one's old folder


def _step_in(staging: Path, target: Path) -> None:
    if target.exists():
        shutil.rmtree(_aside(target), ignore_errors=True)
        _rename(os.rename, target, _aside(target))
    _rename(os.rename, staging, target)


def _aside(target: Path) -> Path:
    return target.parent / f"{_REPLACED_PREFIX}{target.name}"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Waits until no other process or thread is in a block with the same lock file; not to be nested.

    On a file system without locks the block is entered at once.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        locks.acquire(descriptor)
        yield
    finally:
        os.close(descriptor)


def _sync(path: Path) -> None:
    if path.is_dir():
        return _sync_folder(path)
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


def _sync_folder(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:  # Windows opens no folder, and writes its entries by itself
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
