"""PNG files by their chunks: bit depth, the bytes that hold pixels, and rows that are missing (PNG, third edition)."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from cytolora.data.imaging.pixels import unreadable

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER_BYTES = 29
_TRUE_COLOUR = 2
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""By colour type."""
_DEEP = (2, 4, 6)
"""Colour types whose 16-bit samples Pillow reads with their upper 8 bits alone."""
_PIECE = 2**16
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""First column and row, and the steps between them, of the seven passes of an interlaced file."""


class _Header(NamedTuple):
    width: int
    height: int
    bits: int
    """Of a pixel."""
    is_interlaced: bool

    @property
    def num_bytes(self) -> int:
        """Of all rows before they are packed, each with the number of its filter."""
        passes = _PASSES if self.is_interlaced else ((0, 0, 1, 1),)
        total = 0
        for left, top, across, down in passes:
            columns, rows = -(-(self.width - left) // across), -(-(self.height - top) // down)
            total += rows * (1 + -(-columns * self.bits // 8)) if columns > 0 and rows > 0 else 0
        return total


def is_deep_png(head: bytes) -> bool:
    """Whether the first bytes of a file are those of a PNG with 16 bits in more than one sample."""
    return _is_png(head) and head[24] == 16 and head[25] in _DEEP


def is_true_colour(head: bytes) -> bool:
    """Whether the first bytes of a file are those of a PNG in red, green and blue without an alpha channel."""
    return _is_png(head) and head[25] == _TRUE_COLOUR


def data_bytes(file: BinaryIO) -> int:
    """Returns the bytes of an open file that can hold pixels: those of its IDAT chunks. The file stays where it is."""
    with _place_kept(file):
        return sum(length for _, length in _data_chunks(file))


def check_rows(file: BinaryIO, image: Image.Image, name: str) -> None:
    """Raises a DecodeError where a PNG that Pillow has loaded ends before its last row: it leaves such rows at zero.

    Only a file whose last row is zero, or whose rows are interlaced, is unpacked for it once more.
    """
    last = image.crop((0, image.height - 1, image.width, image.height))
    if np.asarray(last).any() and not image.info.get("interlace"):
        return
    with _place_kept(file):
        header = _header(file)
        there = _num_unpacked(file, header.num_bytes)
    if there < header.num_bytes:
        raise unreadable(
            name, f"its rows take {header.num_bytes:,} bytes and {there:,} are there; it is cut off or damaged"
        )


def _is_png(head: bytes) -> bool:
    return len(head) >= 26 and head.startswith(_SIGNATURE)


@contextmanager
def _place_kept(file: BinaryIO) -> Iterator[None]:
    before = file.tell()
    try:
        yield
    finally:
        file.seek(before)


def _header(file: BinaryIO) -> _Header:
    file.seek(0)
    head = file.read(_HEADER_BYTES)
    width, height = int.from_bytes(head[16:20], "big"), int.from_bytes(head[20:24], "big")
    return _Header(width, height, head[24] * _SAMPLES[head[25]], bool(head[28]))


def _data_chunks(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Finds the start and the length of every IDAT chunk, as far as they are in the file."""
    at, end = len(_SIGNATURE), file.seek(0, 2)
    while at + 8 <= end:
        file.seek(at)
        head = file.read(8)
        length = int.from_bytes(head[:4], "big")
        if head[4:] == b"IDAT":
            yield at + 8, min(length, end - at - 8)
        at += length + 12


def _num_unpacked(file: BinaryIO, most: int) -> int:
    """Counts the bytes that the pixels unpack to, up to ``most``."""
    unpacker, total = zlib.decompressobj(), 0
    for start, length in _data_chunks(file):
        for at in range(start, start + length, _PIECE):
            file.seek(at)
            packed = file.read(min(_PIECE, start + length - at))
            while packed and total < most and not unpacker.eof:
                total += len(unpacker.decompress(packed, _PIECE))
                packed = unpacker.unconsumed_tail
    return min(total, most)
