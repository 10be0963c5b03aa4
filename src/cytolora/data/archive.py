"""Archive extraction: a downloaded zip file is unpacked whole into a cache, or refused by the name of a member."""

import errno
import re
import shutil
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from cytolora.core.cache_entries import ARCHIVES, hold
from cytolora.core.cache_folder import default_cache, wrote
from cytolora.core.files import canonical_json, sha256_text
from cytolora.core.folders import recover_folders, staged_folder
from cytolora.core.litter import is_litter
from cytolora.core.locks import locked
from cytolora.core.zip_members import MAX_RATIO, is_bomb, unpacks_too_far
from cytolora.data.unpacked_archive import mend
from cytolora.data.walk import folders_in, has_images
from cytolora.errors import DataError

DEFAULT_CACHE = default_cache() / ARCHIVES

_MAX_MEMBERS = 1_000_000
_MAX_TRIES = 5
"""How often the folder of an archive may be removed by another process before it is held."""

_OTHER_ARCHIVES = re.compile(r"\.(tar|tgz|tbz2?|txz|tar\.\w+|7z|rar|gz|xz|bz2)$", re.IGNORECASE)
_MAX_WRAPPERS = 4
"""Folders around a dataset that are looked through."""
_LOCK = ".unpack.lock"
"""In the folder of each archive: another one need not wait."""
_DRIVE = re.compile(r"[A-Za-z]:")
_KEY = re.compile(r"[0-9a-f]{16}")


def is_archive(path: Path) -> bool:
    """Says by name whether a path is a zip file, or another archive that will be refused with the reason."""
    return path.is_file() and (path.suffix.lower() == ".zip" or _OTHER_ARCHIVES.search(path.name) is not None)


def unpack(archive: Path, cache: Path = DEFAULT_CACHE) -> Path:
    """Unpacks a zip file under ``cache`` and returns the folder; a second call finds it there.

    Nothing is written before every entry was checked, and nothing stays if one of them turns out damaged.

    Raises:
        DataError: If it is no zip file, is damaged, or holds an entry that no dataset needs: a link, a device, a
            path that leaves the folder, a name that stands twice, a password, or a decompression bomb.
    """
    if archive.suffix.lower() != ".zip":
        raise DataError(
            f"{archive} is not a zip file. Other archives are not unpacked, for they may hold links, devices and "
            "paths that lead elsewhere; unpack it yourself and point at the folder."
        )
    try:
        with zipfile.ZipFile(archive) as packed:
            members = _checked(archive, packed.infolist())
            target = cache / _key(members) / archive.stem
            _unpack_into(packed, members, target)
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        NotImplementedError,
        RuntimeError,
        ValueError,
        struct.error,
    ) as error:
        raise DataError(f"{archive} is damaged ({error}); download it again.") from error
    except OSError as error:
        hint = "free some space" if error.errno == errno.ENOSPC else "unpack it yourself and point at the folder"
        raise DataError(f"Cannot unpack {archive} into {cache}: {error.strerror or error}; {hint}.") from error
    return target


def _unpack_into(packed: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], target: Path) -> None:
    """Fills a folder, or mends it where it is there; nothing removes it while this process lives."""
    if target.parent.is_dir():
        recover_folders(target.parent)
    _hold(target.parent)
    if not target.is_dir():
        with locked(target.parent / _LOCK):  # unpacked once: another process may be reading it already
            is_new = not target.is_dir()
            if is_new:
                _extract(packed, members, target)
        if is_new:
            return wrote(target.parent.parent, sum(member.file_size for member in members.values()))
    mend(packed, members, target)


def _hold(folder: Path) -> None:
    for _ in range(_MAX_TRIES):
        folder.mkdir(parents=True, exist_ok=True)
        if hold(folder):
            return
    raise OSError(errno.EBUSY, "another process removes its folder again and again")


def unpacked_in(folder: Path) -> Path | None:
    """Returns the entry of a cache of archives that a folder lies in; None if it lies in none."""
    outer = (folder, *folder.parents)
    return next((one for one in outer if one.parent.name == ARCHIVES and _KEY.fullmatch(one.name)), None)


def inner_folders(folder: Path) -> list[Path]:
    """Lists a folder and, while only one folder in it holds anything, the ones inside: downloads wrap their content.

    Files beside that folder (README, licence, a table) are no content, nor are folders without images.
    """
    folders = [folder]
    while len(folders) <= _MAX_WRAPPERS:
        inside = folders_in(folders[-1])
        content = inside if len(inside) == 1 else [one for one in inside if has_images(one)]
        if len(content) != 1:
            break
        folders.append(content[0])
    return folders


def _checked(archive: Path, members: Iterable[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """Returns the files to unpack by their target path, and refuses the archive for the first hostile entry."""
    files: dict[str, zipfile.ZipInfo] = {}
    for number, member in enumerate(members):
        if number >= _MAX_MEMBERS:
            raise DataError(f"{archive} holds more than {_MAX_MEMBERS:,} entries; unpack it yourself.")
        path = PurePosixPath(member.filename.replace("\\", "/"))
        why = _why_hostile(path, member)
        if not why and path.as_posix() in files:
            why = "stands in the archive twice"
        if why:
            raise DataError(f"{archive}: entry {member.filename!r} {why}; nothing was unpacked.")
        if not member.is_dir() and not is_litter(path.as_posix()):
            files[path.as_posix()] = member
    total = sum(member.file_size for member in files.values())
    if unpacks_too_far(total, sum(member.compress_size for member in files.values())) or unpacks_too_far(
        total, archive.stat().st_size
    ):
        raise DataError(f"{archive} would unpack to {total:,} bytes, more than {MAX_RATIO} times its size; refused.")
    return files


def _why_hostile(path: PurePosixPath, member: zipfile.ZipInfo) -> str:
    kind = stat.S_IFMT(member.external_attr >> 16)
    if not path.parts:
        return "has no name"
    if path.is_absolute() or _DRIVE.match(path.as_posix()):
        return "has an absolute path"
    if ".." in path.parts:
        return "leaves the folder with '..'"
    if kind == stat.S_IFLNK:
        return "is a symbolic link"
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a device or another special file"
    if member.flag_bits & 0x1:
        return "has a password"
    if is_bomb(member):
        return f"would unpack to {member.file_size:,} bytes, more than {MAX_RATIO} times its size"
    return ""


def _key(members: dict[str, zipfile.ZipInfo]) -> str:
    """Names an archive by its table of contents: names, sizes and checksums of all files."""
    table = sorted([path, member.file_size, member.CRC] for path, member in members.items())
    return sha256_text(canonical_json(table))[:16]


def _extract(packed: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], target: Path) -> None:
    needed, cache = sum(member.file_size for member in members.values()), target.parent
    if shutil.disk_usage(cache).free < needed:
        raise OSError(errno.ENOSPC, f"{needed:,} bytes are needed and the disk has less")
    with staged_folder(target) as staging:
        for path, member in members.items():
            file = staging / path
            file.parent.mkdir(parents=True, exist_ok=True)
            with packed.open(member) as source, file.open("xb") as sink:
                shutil.copyfileobj(source, sink, 1 << 20)  # reads no more than the size that was checked
