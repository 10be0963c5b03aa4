"""Members of zip files: read with bounded memory, refused where they state another size; written alike everywhere."""

import stat
import zipfile
import zlib
from pathlib import Path

MAX_RATIO = 200
"""Unpacked bytes to packed bytes, of one entry and of all; photographs reach 20, zeros 1000."""
_UNIX = 3
"""Of the systems that zip knows, the one that has modes."""
_FREE_BYTES = 64 * 2**20
"""Up to here no ratio is looked at: small blank images pack very well."""


def is_zip(path: Path) -> bool:
    """Whether a file is a zip file, by its end; a damaged one is none."""
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # of several disks, it says
        return False


def is_bomb(member: zipfile.ZipInfo) -> bool:
    """Whether a member states that it unpacks to very much more than it takes."""
    return unpacks_too_far(member.file_size, member.compress_size)


def undated(name: str) -> zipfile.ZipInfo:
    """Describes a file to be packed so that equal files give equal bytes on every system.

    Whoever unpacks it may read it, and so may others there: by default only its owner could.
    """
    member = zipfile.ZipInfo(name)
    member.create_system, member.external_attr = _UNIX, (stat.S_IFREG | 0o644) << 16
    return member


def unpacks_too_far(num_bytes: int, num_packed: int) -> bool:
    """Whether so many bytes from so few are a decompression bomb."""
    return num_bytes > _FREE_BYTES and num_bytes > MAX_RATIO * num_packed


def read_member(packed: zipfile.ZipFile, member: zipfile.ZipInfo, *, max_bytes: int | None = None) -> bytes:
    """Reads a member, inflating no more than it states. (``ZipFile.read`` inflates 2 GB before it looks.)

    Args:
        max_bytes: Largest size that it may state; no limit if None.

    Raises:
        ValueError: If it states more, or is damaged, encrypted or packed in a way that is not supported.
        OSError: If the file cannot be read.
    """
    if max_bytes is not None and member.file_size > max_bytes:
        raise ValueError(f"it unpacks to {member.file_size:,} bytes, expected at most {max_bytes:,}")
    try:
        with packed.open(member) as file:
            content = file.read(member.file_size)
            file.read(1)  # at the end, where the checksum is compared
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, KeyError) as error:
        raise ValueError(str(error) or type(error).__name__) from error
    if len(content) != member.file_size:
        raise ValueError(f"it ends after {len(content):,} of {member.file_size:,} bytes")
    return content
