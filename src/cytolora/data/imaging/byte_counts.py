"""Byte counts of strips and tiles in TIFF files: wrong ones are mended as libtiff does, pages with holes are told."""

from typing import Any

_NO_COMPRESSION, _YCBCR = 1, 6


def has_holes(page: Any) -> bool:
    """Whether strips or tiles are left out of the file (sparse): offset and count are 0, the pixels black.

    Pillow reads the head of the file as their pixels.
    """
    return any(not offset and not count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False))


def mend_counts(page: Any, key: Any, file_size: int) -> None:
    """Replaces byte counts that a known fault of writers has made 0 or too small.

    What is not compressed takes what its size says; a single compressed strip goes to the end of the file
    (EstimateStripByteCounts in libtiff's tif_dirread.c).

    Args:
        page: Page or frame of tifffile.
        key: Page that says how it is stored.
    """
    offsets, counts = page.dataoffsets, page.databytecounts
    if int(key.compression) == _NO_COMPRESSION and int(key.photometric) != _YCBCR and key.imagedepth == 1:
        needed = [_segment_bytes(key, number) for number in range(len(counts))]
    elif len(counts) == 1:
        needed = [file_size - offsets[0] if counts[0] == 0 else 0]
    else:
        return
    mended = tuple(
        need if offset and count < need <= file_size - offset else count
        for offset, count, need in zip(offsets, counts, needed, strict=True)
    )
    if mended != tuple(counts):
        page.databytecounts = mended


def _segment_bytes(key: Any, number: int) -> int:
    """Bytes of one strip or tile that is stored as it is."""
    samples = 1 if int(key.planarconfig or 1) == 2 else int(key.samplesperpixel)
    if key.is_tiled:
        width, height = int(key.tilewidth), int(key.tilelength)
    else:
        length = int(key.imagelength)
        rows = max(1, min(int(key.rowsperstrip), length))
        width, height = int(key.imagewidth), min(rows, length - number % -(-length // rows) * rows)
    return -(-width * samples * int(key.bitspersample) // 8) * height
