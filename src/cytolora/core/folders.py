"""Atomic replacement of folders, and reading of folders that other processes may replace at any moment."""

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from cytolora.core import locks, unfinished
from cytolora.core.files import link_target, refuse_special, rename, sync, sync_folder
from cytolora.core.locks import locked
from cytolora.errors import CytoloraError

_REPLACED_PREFIX = ".cytolora-replaced-"
_EARLIER_PREFIX = ".replaced-"
"""Of earlier versions; a user's own folder may be named like that."""
_TOGETHER = ".together"
_LOCK = ".lock"
_MAX_REPLACEMENTS = 20
"""How often a folder may be replaced by others while it is being read or replaced."""

Version = tuple[int, int, int]
"""Tells a folder from the one that replaced it: device, inode, and time of change, since inodes are used again."""

_Value = TypeVar("_Value")


@contextmanager
def staged_folder(target: Path) -> Iterator[Path]:
    """Yields an empty folder that becomes ``target`` by rename when the block ends well.

    An existing ``target`` is replaced whole, also where other processes replace it at the same time: the last one
    stays. One that is a symbolic link is replaced where it leads. If the block raises, nothing of it stays. What killed
    processes had begun there is removed first.
    """
    with _staged(link_target(target), _swap_in) as staging:
        yield staging


@contextmanager
def staged_together(folder: Path) -> Iterator[Path]:
    """Yields an empty folder whose files are moved to ``folder``, beside what is there, when the block ends well.

    Of several processes that write the same names, all files of one stay, never some of each; what a killed one had
    not moved yet is moved by the next.
    """
    finish_together(folder)
    with _staged(folder / _TOGETHER, _move_together) as staging:
        yield staging


def finish_together(folder: Path) -> None:
    """Moves the files to ``folder`` that a killed process wrote for it together, if there are any."""
    ready = folder / _TOGETHER
    if current_folder(ready).exists():
        recover_folder(ready)
        with locked(folder / _LOCK):
            _move_ready(ready)


@contextmanager
def _staged(target: Path, put: Callable[[Path, Path], None]) -> Iterator[Path]:
    """Yields an empty folder that ``put`` brings to ``target`` when the block ends well."""
    refuse_special(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    _recover(target)
    unfinished.sweep(target.parent)
    descriptor, staging = unfinished.begin_folder(target)
    try:
        yield staging
        for path in (*sorted(staging.rglob("*")), staging):
            sync(path)
        put(staging, target)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _move_together(staging: Path, ready: Path) -> None:
    """Moves the files of ``staging`` to the folder of ``ready``: from there, so that the next one ends what is killed.

    All within one lock: another process would replace ``ready``, with files in it that were not moved.
    """
    with locked(ready.parent / _LOCK):
        _move_ready(ready)
        _replace(staging, ready)
        sync_folder(ready.parent)
        _move_ready(ready)
        _remove(_aside(ready))


def _move_ready(ready: Path) -> None:
    folder = ready.parent
    with suppress(FileNotFoundError):
        for file in sorted(ready.iterdir()):
            rename(os.replace, file, folder / file.name)
    with suppress(OSError):  # gone, or filled by another process again
        ready.rmdir()
    sync_folder(folder)


def recover_folders(parent: Path) -> None:
    """Takes back half-done replacements that killed processes left in a store or cache; removes what they had begun.

    Where nothing may be written, everything is left as it is: what is whole can still be read.
    """
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        return
    unfinished.sweep(parent, is_ours=True)
    with suppress(PermissionError), locked(parent / _LOCK):  # Windows tells only now that nothing may be written
        for prefix in (_REPLACED_PREFIX, _EARLIER_PREFIX):
            for old in sorted(parent.glob(f"{prefix}*")):
                _take_back(old, parent / old.name.removeprefix(prefix))


def recover_folder(target: Path) -> None:
    """Takes back a half-done replacement of one folder, wherever it is; writes nothing where none was left half-done.

    What an earlier version set aside comes back where ``target`` is missing, and is otherwise left alone.
    """
    _recover(target)
    if (earlier := _left_aside(target)) and not target.exists() and os.access(earlier.parent, os.W_OK):
        with suppress(OSError):  # another process was faster
            earlier.rename(link_target(target))


def _recover(target: Path) -> None:
    aside = _aside(target)
    if aside.exists() and os.access(aside.parent, os.W_OK):
        with suppress(PermissionError), locked(aside.parent / _LOCK):
            _take_back(aside, link_target(target))


def _take_back(old: Path, target: Path) -> None:
    """Renames what was set aside back, unless a new folder stands there: then it is removed."""
    if not target.exists():
        with suppress(OSError):  # another process was faster
            old.rename(target)
    if target.exists():
        _remove(old)


def nearest_existing(path: Path) -> Path:
    """Returns what is there of a path: itself, or the nearest folder above; a link that leads nowhere is there."""
    return next(one for one in (path.absolute(), *path.absolute().parents) if os.path.lexists(one))


def folder_names(parent: Path) -> list[str]:
    """Lists the folders and files in ``parent`` that are not hidden, also those that are being replaced; sorted."""
    names: set[str] = set()
    for _ in range(2):  # one listing may miss what is renamed at that moment
        with suppress(FileNotFoundError, NotADirectoryError):
            found = {path.name.removeprefix(_REPLACED_PREFIX) for path in parent.iterdir()}
            names |= {name.removeprefix(_EARLIER_PREFIX) for name in found}
    return sorted(name for name in names if not name.startswith("."))


def current_folder(folder: Path) -> Path:
    """Returns the path to read a folder from: where it is set aside if a process was killed while it replaced it.

    Waits for a living process that replaces it. Writes nothing: ``recover_folders`` is for those who write.
    """
    if not folder.exists() and (aside := _left_aside(folder)):
        _wait_for_replacement(aside.parent)
        if not folder.exists() and (aside := _left_aside(folder)):
            return aside
    return folder


def folder_version(folder: Path) -> Version | None:
    """Returns what another folder of this name would differ in; None where there is none."""
    try:
        return _version(current_folder(folder).stat())
    except (FileNotFoundError, NotADirectoryError):
        return None


def read_unreplaced(folder: Path, read: Callable[[Path], _Value]) -> _Value:
    """Returns what ``read`` makes of a folder or file, all of one version: again where another process replaced it.

    What ``read`` raises is raised only if the folder was the same before and after.

    Raises:
        OSError: If it is replaced again and again.
    """
    for _ in range(_MAX_REPLACEMENTS):
        here, before = current_folder(folder), folder_version(folder)
        try:
            value = read(here)
        except (OSError, ValueError, CytoloraError):
            if (current_folder(folder), folder_version(folder)) == (here, before):
                raise
            continue
        if folder_version(folder) == before:
            return value
    raise _busy(folder)


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
            if not folder.exists() and not _left_aside(folder):
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
    raise _busy(folder)


def _busy(folder: Path) -> OSError:
    return OSError(errno.EBUSY, "Another process is replacing it, or was killed while it did", str(folder))


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


def _swap_in(staging: Path, target: Path) -> None:
    """Renames ``staging`` to ``target``; folders cannot be exchanged in one step, so the old one steps aside first."""
    if not _is_new(staging, target):
        with locked(target.parent / _LOCK):
            _replace(staging, target)
            sync_folder(target.parent)
            _remove(_aside(target))  # locked: or it would be the next one's old folder
    else:
        sync_folder(target.parent)


def _is_new(staging: Path, target: Path) -> bool:
    """Renames to where nothing is; False where something is, or another process was faster: then it is replaced."""
    if target.exists() or _aside(target).exists():
        return False
    try:
        rename(os.rename, staging, target)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
        return False
    return True


def _replace(staging: Path, target: Path) -> None:
    for left in reversed(range(_MAX_REPLACEMENTS)):
        try:
            return _step_in(staging, target)
        except OSError as error:
            # a new folder is renamed to where there was none without a lock, and some file systems know no locks
            if not left or error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOENT):
                raise


def _step_in(staging: Path, target: Path) -> None:
    if target.exists():
        _remove(_aside(target))
        rename(os.rename, target, _aside(target))
    try:
        rename(os.rename, staging, target)
    except OSError:
        with suppress(OSError):  # the old one comes back, unless a new one stands there
            _aside(target).rename(target)
        raise


def _remove(aside: Path) -> None:
    """Removes a folder, or a link to one, which earlier versions set aside itself."""
    if aside.is_symlink():
        return aside.unlink(missing_ok=True)
    shutil.rmtree(aside, ignore_errors=True)


def _left_aside(target: Path) -> Path | None:
    """Returns where a killed process, perhaps of an earlier version, or one that is at work, set a folder aside."""
    aside = _aside(target)
    earlier = aside.with_name(f"{_EARLIER_PREFIX}{link_target(target).name}")
    return next((path for path in (aside, earlier) if path.exists()), None)


def _aside(target: Path) -> Path:
    target = link_target(target)
    return target.parent / f"{_REPLACED_PREFIX}{target.name}"
