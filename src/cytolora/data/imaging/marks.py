"""Marks of images that today's rules read otherwise than those of version 1: nothing stored changes in silence."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from cytolora.config.reading import VERSION_1, Decoding
from cytolora.core.finding_kinds import KINDS
from cytolora.core.findings import Finding
from cytolora.data.imaging.decode import ON_WHITE, OPAQUE, Decoded, decode, decode_image
from cytolora.data.imaging.findings import Cases, is_small, small_range
from cytolora.data.imaging.pixels import DecodeError
from cytolora.data.imaging.png import is_deep_png
from cytolora.data.imaging.samples import bits_top
from cytolora.data.imaging.tiff import SIGNATURES, Tiff
from cytolora.errors import DataError

_HEAD_BYTES = 26
_READ_BYTES = 2**16
"""At once."""
_PNG_WITH_ALPHA = (4, 6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """How an image is read, where its first bytes leave a doubt."""

    rules: str = ""
    """By which it is read otherwise than by version 1, in words; empty where it is not."""
    used_share: float | None = None
    """Of an image of more than 8 bits, its highest value by that which becomes white."""


def changed_rule(path: Path, decoding: Decoding) -> str:
    """Returns the rules by which an image is read otherwise than by version 1, in words; empty where it is not."""
    return mark_of(path, decoding).rules


_PLAIN = Mark()


def hash_and_mark(path: Path, decoding: Decoding) -> tuple[str, Mark]:
    """Returns the SHA-256 of a file and its mark; opens it once, and again only where its first bytes leave a doubt.

    Raises:
        OSError: If the file cannot be read.
    """
    with path.open("rb", buffering=0) as file:  # a buffer would cost a tenth of the time of a cell
        content = file.read(_READ_BYTES)
        digest, is_doubtful = hashlib.sha256(content), _is_doubtful(content[:_HEAD_BYTES], file, decoding)
        file.seek(len(content))
        while content:
            content = file.read(_READ_BYTES)
            digest.update(content)
    return digest.hexdigest(), _decoded_mark(path, decoding) if is_doubtful else _PLAIN


def mark_of(path: Path, decoding: Decoding) -> Mark:
    """Decodes an image whose first bytes leave a doubt; one that no version reads has no mark."""
    return _decoded_mark(path, decoding) if _is_file_doubtful(path, decoding) else _PLAIN


def _decoded_mark(path: Path, decoding: Decoding) -> Mark:
    try:
        today = decode_image(path, decoding=decoding)
    except DecodeError as error:
        return Mark(rules="" if error.code == "P101" and not _reads(path) else KINDS[error.code].name)
    return Mark(rules=_difference(path, today), used_share=today.used_share)


def small_range_of(marks: Mapping[str, Mark], decoding: Decoding) -> list[Finding]:
    """Returns the finding on images, by name, that use few of their values."""
    cases, largest = Cases(), 0.0
    for name, mark in marks.items():
        if is_small(mark.used_share):
            cases.add(name)
            largest = max(largest, mark.used_share or 0.0)
    return list(small_range(cases, largest, decoding))


def _difference(path: Path, today: Decoded) -> str:
    if today.conversion in (OPAQUE, ON_WHITE):
        return ""  # of 8 bits: every version reads them so, and reading twice takes as long again
    try:
        before = decode(path, decoding=VERSION_1)
    except DataError:
        return _as_marked(today.conversion) or "read since"
    return "" if np.array_equal(before, today.pixels) else _as_marked(today.conversion) or "colours converted"


def _as_marked(conversion: str) -> str:
    """Names deeper samples as 16 bits, as the first marks did: a mark is part of fingerprints that are stored."""
    return re.sub(r"\b(32|64)-bit\b", "16-bit", conversion)


def used_range(paths: Iterable[Path], decoding: Decoding) -> Decoding:
    """Puts a value in the place of ``used``: the highest of the bits that the images of a dataset use.

    One for all images, so that their brightness can be compared, and kept with a classifier, so that new images are
    read as those that it was trained on. Images of 8 bits have no part in it.
    """
    if decoding.value_range != "used":
        return decoding
    full, highest = replace(decoding, value_range="full"), 0
    for path in paths:
        if not _is_file_doubtful(path, full):
            continue
        try:
            highest = max(highest, decode_image(path, decoding=full).highest or 0)
        except DataError:
            continue  # named where it is read
    return replace(decoding, value_range=bits_top(highest) if highest else "full")


def _reads(path: Path) -> bool:
    try:
        decode(path, decoding=VERSION_1)
    except DataError:
        return False
    return True


def _is_file_doubtful(path: Path, decoding: Decoding) -> bool:
    try:
        with path.open("rb") as file:
            return _is_doubtful(file.read(_HEAD_BYTES), file, decoding)
    except OSError:
        return False


def _is_doubtful(head: bytes, file: BinaryIO, decoding: Decoding) -> bool:
    """Whether a file may be read in another way than by version 1, by its first bytes and its TIFF directories."""
    if decoding.version == 1:
        return False
    if head.startswith(SIGNATURES):
        return decoding.icc != "ignore" or not _is_plain_tiff(file)
    if decoding.icc != "ignore":
        return True
    if head.startswith(b"\x89PNG") and len(head) == _HEAD_BYTES:
        return is_deep_png(head) or head[25] in _PNG_WITH_ALPHA or head[24] == 16
    return head[:4] == b"RIFF" and head[12:16] != b"VP8 "


def _is_plain_tiff(file: BinaryIO) -> bool:
    """Whether every version reads a TIFF alike; so it is where its directories cannot be read from disk."""
    file.seek(0)
    try:
        tiff = Tiff(file)
        return tiff.count == 1 and tiff.page(0) == 0 and not (tiff.has_alpha or tiff.has_byte_palette)
    except OSError:
        return True
    except Exception:  # directories that tifffile does not read
        return False
