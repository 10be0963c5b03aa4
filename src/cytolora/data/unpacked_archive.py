"""Check of an unpacked zip file against its table of contents: what is missing or damaged is unpacked again."""

import os
import shutil
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from cytolora.core.cache_damage import note_damage
from cytolora.core.files import staged_file

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
    for name, member in members.items():
        path = folder / name
        if not _is_whole(path, member):
            note_damage(folder.parent.parent, path)
            if path.is_symlink():  # what it leads to is not ours
                path.unlink()
            with staged_file(path) as staging, packed.open(member) as source, staging.open("wb") as sink:
                shutil.copyfileobj(source, sink, _BLOCK_BYTES)
    _whole[folder] = stamp(folder)


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
