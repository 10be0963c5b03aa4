"""The one way anything is written: under a temporary name, flushed to disk, then renamed."""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_STAGING_PREFIX = ".staging-"
_REPLACED_PREFIX = ".replaced-"


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
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=_STAGING_PREFIX)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.chmod(temporary, 0o644)  # mkstemp makes it private; results are meant to be read
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    if durable:
        _sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Writes a UTF-8 text file whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Writes readable, sorted JSON whole or not at all; NaN and infinity are refused."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


@contextmanager
def staged_folder(target: Path) -> Iterator[Path]:
    """Yields an empty folder that becomes ``target`` by rename when the block ends well.

    An existing ``target`` is replaced whole. If the block raises, nothing of it stays.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=target.parent, prefix=f"{_STAGING_PREFIX}{target.name}-"))
    try:
        yield staging
        os.chmod(staging, 0o755)
        for path in sorted(staging.rglob("*")):
            _sync(path)
        _swap_in(staging, target)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def recover_folders(parent: Path) -> None:
    """Takes back the half-done replacements that a killed process left in ``parent``."""
    if not parent.is_dir():
        return
    with _locked(parent):
        for old in sorted(parent.glob(f"{_REPLACED_PREFIX}*")):
            target = parent / old.name.removeprefix(_REPLACED_PREFIX)
            if target.exists():
                shutil.rmtree(old, ignore_errors=True)
            else:
                old.rename(target)


def _swap_in(staging: Path, target: Path) -> None:
    """Renames ``staging`` to ``target``; folders cannot be exchanged in one step, so the old one steps aside first."""
    if not target.exists():
        try:
            staging.rename(target)
            return _sync_folder(target.parent)
        except OSError:  # another process was faster: replace its folder, as if it had been there before
            pass
    old = target.parent / f"{_REPLACED_PREFIX}{target.name}"
    with _locked(target.parent):
        shutil.rmtree(old, ignore_errors=True)
        target.rename(old)
        staging.rename(target)
    _sync_folder(target.parent)
    shutil.rmtree(old, ignore_errors=True)


@contextmanager
def _locked(parent: Path) -> Iterator[None]:
    with (parent / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _sync(path: Path) -> None:
    if path.is_file():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    else:
        _sync_folder(path)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
