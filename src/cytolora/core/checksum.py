"""Checksum of cached files, over key and content: what is damaged, or kept under another key, counts as absent."""

import hashlib

_MAGIC = b"cytolora sha256 "
_HEAD_BYTES = len(_MAGIC) + 64 + 1
"""Of the first line: hexadecimal digits and the line's end."""


def add_checksum(content: bytes, *, key: str) -> bytes:
    """Returns what to write to a cache file, for ``checked`` to read.

    Args:
        key: Says all that decides the content, as the file's name does: so that a file copied over another is noticed.
    """
    return _head(memoryview(content), key) + content


def checked(kept: memoryview, *, key: str, trusted: bool = False) -> memoryview | None:
    """Returns the content that ``add_checksum`` was given; None if it is not whole, or of another key.

    Args:
        trusted: Leaves the checksum out, for what was checked before.
    """
    head, content = kept[:_HEAD_BYTES], kept[_HEAD_BYTES:]
    if len(head) < _HEAD_BYTES or head[: len(_MAGIC)] != _MAGIC:
        return None
    return content if trusted or head == _head(content, key) else None


def has_checksum(start: bytes) -> bool:
    """Whether the first bytes of a file, or of a shard, are those of a checksum of this package."""
    return start.startswith(_MAGIC) or start[4:].startswith(_MAGIC)


def is_like_checksum(start: bytes) -> bool:
    """Whether the first bytes of a file are, or were before a part of them was damaged, those of a checksum."""
    equal = sum(found == expected for found, expected in zip(start, _MAGIC, strict=False))
    return equal >= len(_MAGIC) // 2


def _head(content: memoryview, key: str) -> bytes:
    digest = hashlib.sha256(hashlib.sha256(key.encode()).digest())
    digest.update(content)
    return _MAGIC + digest.hexdigest().encode() + b"\n"
