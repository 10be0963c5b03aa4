"""Palettes of 8 bits in TIFF, and transparent values of PNG: read as they are meant, whatever the depth."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from cytolora.config.reading import STANDARD
from cytolora.data.imaging.decode import decode, decode_image
from cytolora.data.imaging.marks import changed_rule
from cytolora.errors import DataError

INDICES = np.random.default_rng(0).integers(0, 16, (20, 24), np.uint8)
COLOURS = np.random.default_rng(1).integers(0, 256, (16, 3), np.uint8)
COLOURS[0] = 255
MEANT = COLOURS[INDICES]
KEYED = np.where(INDICES == 3, 40_000, INDICES.astype(np.uint16) * 2_000)


def palette_tiff(factor: int, bits: int = 8, **options: Any) -> bytes:
    """Writes MEANT by a palette whose values are those of 8 bits times ``factor``."""
    colour_map = np.zeros((3, 2**bits), np.uint16)
    colour_map[:, :16] = COLOURS.T.astype(np.uint16) * factor
    file = io.BytesIO()
    tifffile.imwrite(file, INDICES, photometric="palette", colormap=colour_map, bitspersample=bits, **options)
    return file.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def keyed_png(values: np.ndarray, kind: int, key: bytes) -> bytes:
    """Writes a PNG of 16 bits in which one value is transparent (tRNS)."""
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    parts = ((b"IHDR", head), (b"tRNS", key), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


BYTE_PALETTES = {
    "plain": {},
    "zlib": {"compression": "zlib"},
    "LZW": {"compression": "lzw"},
    "PackBits": {"compression": "packbits"},
    "tiles": {"tile": (16, 16)},
    "big-endian": {"byteorder": ">"},
    "several strips": {"rowsperstrip": 4},
}


@pytest.mark.parametrize("name", BYTE_PALETTES)
def test_a_palette_of_8_bits_gives_its_colours_and_not_black(name: str, tmp_path: Path):
    file = tmp_path / "a.tif"
    file.write_bytes(palette_tiff(1, **BYTE_PALETTES[name]))
    decoded = decode_image(file)
    np.testing.assert_array_equal(decoded.pixels, MEANT)
    assert decoded.colours == "palette of 8 bits in a file that should hold 16, looked up"
    assert changed_rule(file, STANDARD) == decoded.colours  # read black before


@pytest.mark.parametrize("factor", [256, 257])
def test_a_palette_of_16_bits_is_read_as_before(factor: int, tmp_path: Path):
    file = tmp_path / "a.tif"
    file.write_bytes(palette_tiff(factor))
    decoded = decode_image(file)
    np.testing.assert_array_equal(decoded.pixels, MEANT)
    assert decoded.colours == "palette, looked up"
    assert changed_rule(file, STANDARD) == ""


def test_a_turned_palette_of_8_bits_is_upright(tmp_path: Path):
    file = tmp_path / "a.tif"
    file.write_bytes(palette_tiff(1, extratags=[(274, 3, 1, 3, True)]))
    np.testing.assert_array_equal(decode(file), MEANT[::-1, ::-1])


@pytest.mark.parametrize("key", [40_000, 2_000, 0])
def test_a_transparent_gray_of_16_bits_lies_on_white(key: int, tmp_path: Path):
    file = tmp_path / "a.png"
    file.write_bytes(keyed_png(KEYED, 0, struct.pack(">H", key)))
    decoded = decode_image(file)
    gray = np.where(key == KEYED, 255, (KEYED.astype(np.int64) * 255 + 32767) // 65535)
    np.testing.assert_array_equal(decoded.pixels, np.repeat(gray[..., None], 3, 2))
    assert decoded.conversions[-1] == "transparency, laid on white"
    assert "transparency, laid on white" in changed_rule(file, STANDARD)


def test_a_transparent_colour_of_16_bits_lies_on_white():
    values = np.stack([KEYED, KEYED // 2, KEYED // 3], axis=2)
    content = keyed_png(values, 2, struct.pack(">3H", 40_000, 20_000, 13_333))
    meant = np.where((KEYED == 40_000)[..., None], 255, (values.astype(np.int64) * 255 + 32767) // 65535)
    np.testing.assert_array_equal(decode(io.BytesIO(content)), meant)


def test_a_transparent_value_that_no_pixel_has_changes_nothing():
    content = keyed_png(KEYED, 0, struct.pack(">H", 1))
    decoded = decode_image(io.BytesIO(content))
    assert decoded.conversions == ("16-bit gray, divided by 257 and repeated in three channels",)


def test_an_image_of_nothing_but_the_transparent_value_is_refused():
    with pytest.raises(DataError, match="every pixel is transparent"):
        decode(io.BytesIO(keyed_png(np.full((20, 24), 7, np.uint16), 0, struct.pack(">H", 7))))


def test_gray_of_8_and_of_16_bits_treat_a_transparent_value_alike():
    file = io.BytesIO()
    Image.fromarray(INDICES).save(file, "PNG", transparency=3)
    deep = keyed_png(INDICES.astype(np.uint16) * 257, 0, struct.pack(">H", 3 * 257))
    np.testing.assert_array_equal(decode(file), decode(io.BytesIO(deep)))
