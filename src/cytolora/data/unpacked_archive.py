"""Check of an unpacked zip file against its table of contents: what is missing or damaged is unpacked again."""

import logging
import os
import shutil
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from cytolora.core.cache_damage import note_damage, one_notice
from cytolora.core.files import staged_file

log = logging.getLogger(__name__)

_BLOCK_BYTES = 1 << 20

_whole: dict[Path, int] = {}
"""Stamps of the folders that this process has found whole, or mended."""


def stamp(folder: Path) -> int:
    """Returns what changes when a file in a folder is written, without reading any."""
    found = [(str(path), about.st_size, about.st_mtime_ns, about.st_ino) for path, about in _looked_at(folder)]
    return hash(tuple(sorted(found)))


def _looked_at(folder: Path) -> list[tuple[Path, os.stat_result]]:
    return [(path, path.lstat()) for path in folder.rglob("*") if not path.is_dir()]


def mend(packed: zipfile.ZipFile, members: Mapping[str, zipfile.ZipInfo], folder: Path) -> None:
    """Unpacks those files again that are missing in a folder or are not what the archive holds."""
    if _whole.get(folder) == stamp(folder):
        return
    num_missing = 0
    with one_notice():
        for name, member in members.items():
            path = folder / name
            if _is_whole(path, member):
                continue
            if os.path.lexists(path):
                note_damage(folder.parent.parent, path)
            else:
                num_missing += 1
            _unpack_again(packed, member, path)
    if num_missing:
        files = "1 missing file is" if num_missing == 1 else f"{num_missing:,} missing files are"
        log.warning("%s: %s unpacked again.", folder, files)
    _whole[folder] = stamp(folder)


def _unpack_again(packed: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
    """Writes one file; not flushed to disk, for what a power cut tears is found by its checksum."""
    if path.is_symlink():  # what it leads to is not ours
        path.unlink()
    with staged_file(path, durable=False) as staging, packed.open(member) as source, staging.open("wb") as sink:
        shutil.copyfileobj(source, sink, _BLOCK_BYTES)


def _is_whole(path: Path, member: zipfile.ZipInfo) -> bool:
    """Compares length and CRC-32 with the archive's own; a file that cannot be read is not whole."""
    crc = 0
    try:
        if path.is_symlink() or path.stat().st_size != member.file_size:
            return False
        with path.open("rb") as file:
            while block := file.read(_BLOCK_BYTES):
                crc = zlib.crc32(block, crc)
    except OSError:
        return False
    return crc == member.CRC
