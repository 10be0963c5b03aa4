"""Stated sizes of images against the bytes that are there: what cannot be true is refused before it is allocated."""

from io import BytesIO
from typing import Any, BinaryIO, NamedTuple

from PIL import Image

from cytolora.data.imaging.pixels import unreadable

FREE_BYTES = 2**20
"""Pixels of no more bytes are decoded whatever the file holds: the decoder says better what is wrong."""
SAFE_BYTES = 460 * 2**20
"""Memory of one image, by estimate, that is given to any file; more, to those that are no decompression bombs."""
_MAX_RATIO = 200
"""Bytes of pixels to bytes of the file, as for zip files: photographs reach 20, one colour 1000."""
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
"""Of a pixel in the file, by the mode of Pillow that it is read in: some modes are read from several depths."""
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


def check_opened(picture: Picture, image: Any, stored: int) -> None:
    """Raises a DecodeError where an image that Pillow has opened, no TIFF, states more than its file can hold."""
    for codec, *_ in image.tile[:1]:
        bits = 8 if codec == "jpeg" else _FEWEST_BITS.get(image.mode, 8)
        check_stored(picture, picture.width * picture.height * bits // 8, codec, stored)


class Directory(NamedTuple):
    """What a directory of a TIFF states of its pixels."""

    compression: int
    photometric: int
    bits: int
    """Of all samples of a pixel."""
    tile: tuple[int, int] | None
    """Width and height; None where the pixels stand in strips."""


def check_directory(picture: Picture, directory: Directory, stored: int) -> int:
    """Raises a DecodeError where a TIFF's directory states more than its strips or tiles can hold.

    Returns:
        Bytes of all pixels, with those that fill up the tiles at the edges.
    """
    _, width, height = picture
    if directory.tile is not None:
        across, down = directory.tile
        if min(across, down) < 1:
            raise unreadable(picture.name, f"its tiles have {across} x {down} pixels")
        width, height = -(-width // across) * across, -(-height // down) * down
    is_subsampled = directory.photometric == _YCBCR or _BY_TIFF.get(directory.compression) == _JPEG
    num_bytes = width * height * (8 if is_subsampled else directory.bits) // 8
    check_stored(picture, num_bytes, directory.compression, stored)
    return width * height * directory.bits // 8


def check_pillow_directory(picture: Picture, image: Any, stored: int) -> None:
    """Raises a DecodeError where the directory of a TIFF that Pillow has opened states more than its file can hold."""
    tags = image.tag_v2
    bits = tags.get(258, (1,))
    samples = max(int(tags.get(277, 1)), len(bits))
    tile = (int(tags[322]), int(tags[323])) if 322 in tags and 323 in tags else None
    check_directory(
        picture,
        Directory(int(tags.get(259, 1)), int(tags.get(262, 1)), int(bits[0]) * samples, tile),
        min(stored, sum(map(int, tags.get(325) or tags.get(279) or (stored,)))),
    )


def memory_of(picture: Picture, num_bytes: int, stored: int) -> int:
    """Returns the memory that an image takes while it is read and used.

    Args:
        num_bytes: While it is decoded, by estimate.
        stored: Bytes of the file.

    Raises:
        DecodeError: If it takes much, and the file is so small that it is a decompression bomb.
    """
    name, width, height = picture
    needed = max(num_bytes, width * height * _BYTES_PER_PIXEL)
    if needed > SAFE_BYTES and 3 * width * height > _MAX_RATIO * stored:
        raise unreadable(
            name,
            f"{width} x {height} pixels in {stored:,} bytes would take {needed:,} bytes of memory; an image that takes "
            f"more than {SAFE_BYTES:,} is read where its file has at least a {_MAX_RATIO}th of its pixels' bytes",
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


_IMAGES_IN_TIFF = {7: "JPEG", 33003: "JPEG2000", 33004: "JPEG2000", 33005: "JPEG2000", 34712: "JPEG2000", 34933: "PNG"}
"""Compressions of TIFF whose strips and tiles are whole images, by Pillow's reader of their header."""
_WEBP_IN_TIFF = 50001


def check_embedded(picture: Picture, compression: int, data: bytes, num_pixels: int) -> None:
    """Raises a DecodeError where a strip or tile that is a whole image states a larger size than its directory.

    Args:
        num_pixels: Of a strip or tile, by the directory.
    """
    if compression == _WEBP_IN_TIFF:
        size = webp_size(data[:30])
    elif compression in _IMAGES_IN_TIFF:
        with Image.open(BytesIO(data), formats=(_IMAGES_IN_TIFF[compression],)) as image:
            size = image.size
    else:
        return
    if size is not None and size[0] * size[1] > max(num_pixels, FREE_BYTES):
        raise unreadable(picture.name, f"a part of {num_pixels:,} pixels states {size[0]} x {size[1]} itself")
