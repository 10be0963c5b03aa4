"""Stated sizes of images against the bytes that are there: what cannot be true is refused before it is allocated."""

import re
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

from cytolora.data.imaging.pixels import unreadable

FREE_BYTES = 2**20
"""Pixels of no more bytes are decoded whatever the file holds: the decoder says better what is wrong."""
_MAX_RATIOS = ((460 * 2**20, 20_000), (2**30, 200))
"""Memory of one image, by estimate, above which its pixels' bytes may be so many times those of its file.

Photographs reach 20, white JPEG files 512, PNG and deflate 1,032; a blank page of fax G4 as many as it is pixels wide.
Nothing on one side of 89 million pixels needs 1 GiB but animated WebP and deep TIFF files that are one JPEG 2000.
"""
_BYTES_PER_PIXEL = 7
"""At least, for every image: its pixels, 3, beside a copy of them in Pillow's form, 4, which is decoded or scaled."""

_STORED, _LZW, _JPEG, _PACK_BITS = "stored", "LZW", "JPEG", "PackBits"
_DEFLATE = "deflate"
_MAX_UNPACKED = {
    _STORED: 1,
    _PACK_BITS: 64,  # a run of 128 bytes in two (TIFF 6.0, p. 42)
    _DEFLATE: 1032,  # 258 bytes in two bits (zlib's technical details, zlib.net)
    _LZW: 4096 * 8 // 9,  # a code of at least 9 bits for a string of at most 4,096 bytes (TIFF 6.0, p. 61)
    _JPEG: 512,  # a block of 64 pixels in the one bit that its first coefficient takes (ITU-T T.81, F.1.2)
}
"""Bytes, at most, that a byte of a file stands for. Codecs that are not here, such as WebP, know no such bound."""
_BY_TIFF = {1: _STORED, 5: _LZW, 7: _JPEG, 8: _DEFLATE, 32773: _PACK_BITS, 32946: _DEFLATE}
"""By TIFF's number of a compression."""
_BY_PILLOW = {"raw": _STORED, "zip": _DEFLATE, "jpeg": _JPEG, "packbits": _PACK_BITS, "tiff_lzw": _LZW}
"""By the name of Pillow's decoder."""
_FEWEST_BITS = {"1": 1, "P": 1, "L": 2, "I;16": 16, "I;16B": 16, "LA": 16, "RGB": 16, "RGBA": 32, "CMYK": 32}
"""Of a pixel in the file, by the mode of Pillow: the fewest, for some modes are read from several depths."""
_YCBCR = 6
"""Photometric interpretation whose colours may have fewer samples than pixels."""


class Picture(NamedTuple):
    """What a file states of one picture, for an error."""

    name: str
    width: int
    height: int


def file_bytes(file: BinaryIO) -> int:
    """Returns the size of an open file, which stays where it is."""
    before = file.tell()
    size = file.seek(0, 2)
    file.seek(before)
    return size


def check_stored(picture: Picture, num_bytes: int, codec: str | int, stored: int) -> None:
    """Raises a DecodeError where pixels take more bytes than a file can hold of them.

    Args:
        num_bytes: Of the pixels as they were before they were packed.
        codec: Name of Pillow's decoder, or TIFF's number of a compression.
        stored: Bytes of the file that can hold them.
    """
    known = _BY_TIFF.get(codec) if isinstance(codec, int) else _BY_PILLOW.get(codec)
    if known is None or num_bytes <= FREE_BYTES or num_bytes <= stored * _MAX_UNPACKED[known]:
        return
    name, width, height = picture
    how = "as they are" if known == _STORED else f"packed with {known}"
    raise unreadable(
        name,
        f"it states {width} x {height} pixels, which no {stored:,} bytes {how} can hold; it is cut off, or the size is "
        "wrong",
    )


def fewest_bytes(image: Any) -> int:
    """Returns the bytes of the pixels of an image that Pillow has opened, at least, as they were before packing."""
    is_jpeg = any(codec == "jpeg" for codec, *_ in image.tile[:1])
    bits = 8 if is_jpeg else _FEWEST_BITS.get(image.mode, 8)
    return image.width * image.height * bits // 8


def check_opened(picture: Picture, image: Any, stored: int) -> None:
    """Raises a DecodeError where an image that Pillow has opened, no TIFF, states more than its file can hold."""
    for codec, *_ in image.tile[:1]:
        check_stored(picture, fewest_bytes(image), codec, stored)


class Directory(NamedTuple):
    """What a directory of a TIFF states of its pixels."""

    compression: int
    photometric: int
    bits: int
    """Of all samples of a pixel."""
    tile: tuple[int, int] | None
    """Width and height; None where the pixels stand in strips."""
    offsets: Sequence[int] = ()
    counts: Sequence[int] = ()
    """Of bytes, of every strip or tile. Some programs write 0, or too few; offset and count 0: left out (sparse)."""

    @property
    def stored_share(self) -> float:
        """Share of the strips or tiles that are in the file; 1 where none is, for such a file holds no image."""
        left_out = sum(not offset and not count for offset, count in zip(self.offsets, self.counts, strict=False))
        return 1 - left_out / len(self.counts) if 0 < left_out < len(self.counts) else 1

    def stored(self, file_size: int) -> int:
        """Returns the bytes of the file that can hold pixels: all, where the counts are not to be relied on."""
        is_wrong = any(offset and not count for offset, count in zip(self.offsets, self.counts, strict=False))
        if is_wrong or not any(self.counts) or _BY_TIFF.get(self.compression) == _STORED:
            return file_size
        return min(file_size, sum(self.counts))


def check_directory(picture: Picture, directory: Directory, file_size: int) -> None:
    """Raises a DecodeError where a TIFF's directory states more than its strips or tiles can hold."""
    _, width, height = picture
    if directory.tile is not None:
        across, down = directory.tile
        if min(across, down) < 1:
            raise unreadable(picture.name, f"its tiles have {across} x {down} pixels")
        width, height = -(-width // across) * across, -(-height // down) * down
    is_subsampled = directory.photometric == _YCBCR or _BY_TIFF.get(directory.compression) == _JPEG
    num_bytes = width * height * (8 if is_subsampled else directory.bits) // 8
    num_bytes = int(num_bytes * directory.stored_share)
    check_stored(picture, num_bytes, directory.compression, directory.stored(file_size))


def check_pillow_directory(picture: Picture, image: Any, file_size: int) -> None:
    """Raises a DecodeError where the directory of a TIFF that Pillow has opened states more than its file can hold."""
    tags = image.tag_v2
    bits = tags.get(258, (1,))
    samples = max(int(tags.get(277, 1)), len(bits))
    tile = (int(tags[322]), int(tags[323])) if 322 in tags and 323 in tags else None
    check_directory(
        picture,
        Directory(
            int(tags.get(259, 1)),
            int(tags.get(262, 1)),
            int(bits[0]) * samples,
            tile,
            tuple(map(int, tags.get(324) or tags.get(273) or ())),
            tuple(map(int, tags.get(325) or tags.get(279) or ())),
        ),
        file_size,
    )


def memory_of(picture: Picture, num_bytes: int, pixel_bytes: int, stored: int) -> int:
    """Returns the memory that an image takes while it is read and used.

    Args:
        num_bytes: While it is decoded, by estimate.
        pixel_bytes: Of its pixels as they were before they were packed.
        stored: Bytes of the file.

    Raises:
        DecodeError: If it takes much, and the file is so small that it is a decompression bomb.
    """
    name, width, height = picture
    needed = max(num_bytes, width * height * _BYTES_PER_PIXEL)
    for most, ratio in _MAX_RATIOS:
        if needed > most and pixel_bytes > ratio * stored:
            raise unreadable(
                name,
                f"{width} x {height} pixels in {stored:,} bytes would take {needed:,} bytes of memory; an image that "
                f"takes more than {most:,} is read where its file has at least a {ratio:,}th of its pixels' bytes",
            )
    return needed


def webp_size(head: bytes) -> tuple[int, int] | None:
    """Returns width and height that a WebP states in its first 30 bytes; None for other files."""
    if head[:4] != b"RIFF" or head[8:12] != b"WEBP" or len(head) < 30:
        return None
    match head[12:16]:
        case b"VP8X":
            return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
        case b"VP8L":
            bits = int.from_bytes(head[21:25], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 ":
            return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF
    return None


def _jpeg_sizes(data: bytes) -> Iterator[tuple[int, int]]:
    """Finds the sizes in the frame headers before the first scan, of any process and precision (ITU-T T.81, B.2.2)."""
    at = 2
    while (at := data.find(b"\xff", at)) >= 0 and at + 1 < len(data):
        marker = data[at + 1]
        if marker in (0xD9, 0xDA):  # end of the image, start of a scan
            return
        if marker == 0xFF:
            at += 1
        elif marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD8:  # without a length
            at += 2
        else:
            if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
                yield int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")
            at += 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))


def _jpeg2000_sizes(data: bytes) -> Iterator[tuple[int, int]]:
    """Finds the sizes in the heads of codestreams, in boxes or without (ITU-T T.800, A.5.1)."""
    for found in re.finditer(rb"\xff\x4f\xff\x51", data):
        right, bottom, left, top = (
            int.from_bytes(data[at : at + 4], "big") for at in range(found.end() + 4, found.end() + 20, 4)
        )
        yield max(0, right - left), max(0, bottom - top)


def _png_sizes(data: bytes) -> Iterator[tuple[int, int]]:
    yield int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def _webp_sizes(data: bytes) -> Iterator[tuple[int, int]]:
    if (size := webp_size(data[:30])) is not None:
        yield size


_SIZES_IN_TIFF = {
    7: _jpeg_sizes,
    **dict.fromkeys((33003, 33004, 33005, 34712), _jpeg2000_sizes),
    34933: _png_sizes,
    50001: _webp_sizes,
}
"""By compressions of TIFF whose strips and tiles are whole images. Pillow reads the headers of some of them only."""


def check_embedded(picture: Picture, compression: int, data: bytes, num_pixels: int) -> None:
    """Raises a DecodeError where a strip or tile that is a whole image states a larger size than its directory.

    One that states no size is left to its decoder, which says better what is wrong.

    Args:
        num_pixels: Of a strip or tile, by the directory.
    """
    if compression not in _SIZES_IN_TIFF:
        return
    for width, height in _SIZES_IN_TIFF[compression](data):
        if width * height > max(num_pixels, FREE_BYTES):
            raise unreadable(picture.name, f"a part of {num_pixels:,} pixels states {width} x {height} itself")
