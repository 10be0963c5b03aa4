"""PNG files that end before their last row are refused; whole ones are read, however they end."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from png_chunks import chunk

from cytolora.config.reading import VERSION_1, Decoding
from cytolora.data.imaging.decode import decode
from cytolora.data.imaging.png import data_bytes
from cytolora.errors import DataError

_DECODINGS = pytest.mark.parametrize("decoding", [Decoding(), VERSION_1], ids=["today", "version 1"])
_KINDS = {"gray": 0, "RGB": 2, "palette": 3, "gray and alpha": 4, "RGBA": 6}
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def _rows(width: int, height: int, bits: int, value: int) -> bytes:
    row = bytes(1) + bytes([value]) * -(-width * bits // 8)
    return row * height


def _interlaced(width: int, height: int, bits: int, value: int) -> bytes:
    data = b""
    for left, top, across, down in _PASSES:
        columns, rows = len(range(left, width, across)), len(range(top, height, down))
        data += _rows(columns, rows, bits, value) if columns and rows else b""
    return data


def _png(
    width: int,
    height: int,
    *,
    colour: int,
    depth: int = 8,
    less: int = 0,
    value: int = 0,
    interlaced: bool = False,
    cut: int = 0,
) -> bytes:
    """Writes a PNG of one value whose rows lack so many bytes at the end, in chunks cut at a byte."""
    make = _interlaced if interlaced else _rows
    rows = make(width, height, depth * _SAMPLES[colour], value)
    data = zlib.compress(rows[: len(rows) - less])
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    palette = chunk(b"PLTE", bytes(768)) if colour == 3 else b""
    parts = (chunk(b"IHDR", header), palette, *(chunk(b"IDAT", part) for part in (data[:cut], data[cut:]) if part))
    return b"\x89PNG\r\n\x1a\n" + b"".join((*parts, chunk(b"tEXt", b"a\0b"), chunk(b"IEND", b"")))


@_DECODINGS
@pytest.mark.parametrize("value", [0, 77])
@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("kind", _KINDS)
def test_a_png_that_ends_before_its_last_row_is_refused(kind: str, interlaced: bool, value: int, decoding: Decoding):
    value = 200 if "A" in kind or "alpha" in kind else value  # else nothing is to be seen
    colour, row = _KINDS[kind], 1 + 21 * _SAMPLES[_KINDS[kind]]
    for cut in (0, 5):
        whole = _png(21, 18, colour=colour, value=value, interlaced=interlaced, cut=cut)
        assert decode(io.BytesIO(whole), "a.png", decoding=decoding).shape == (18, 21, 3)
        for less in (1, row, 3 * row, 5 * row + 2):
            short = _png(21, 18, colour=colour, value=value, interlaced=interlaced, cut=cut, less=less)
            with pytest.raises(DataError, match=r"Cannot read a.png as an image: (its rows take|image file is trunc)"):
                decode(io.BytesIO(short), "a.png", decoding=decoding)


def test_the_error_says_how_much_is_there():
    with pytest.raises(DataError, match=r"a.png as an image: its rows take 1,920 bytes and 1,856 are there; it is cut"):
        decode(io.BytesIO(_png(21, 30, colour=2, less=64)), "a.png")


@_DECODINGS
@pytest.mark.parametrize(("depth", "colour"), [(1, 0), (2, 0), (4, 3), (16, 0), (16, 2), (16, 6)])
def test_any_depth_is_counted(depth: int, colour: int, decoding: Decoding):
    whole = _png(13, 9, colour=colour, depth=depth, value=200)
    assert decode(io.BytesIO(whole), "a.png", decoding=decoding).shape == (9, 13, 3)
    with pytest.raises(DataError):
        decode(io.BytesIO(_png(13, 9, colour=colour, depth=depth, value=200, less=14)), "a.png", decoding=decoding)


@given(
    width=st.integers(1, 20),
    height=st.integers(1, 20),
    mode=st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "I;16"]),
    black=st.booleans(),
)
def test_every_png_that_pillow_writes_is_whole(width: int, height: int, mode: str, black: bool):
    values = np.full((height, width), 0 if black else 1, np.uint16)
    image = Image.fromarray(values) if mode == "I;16" else Image.fromarray(values.astype(np.uint8)).convert(mode)
    sink = io.BytesIO()
    image.save(sink, "PNG")
    for decoding in (Decoding(), VERSION_1):
        assert decode(io.BytesIO(sink.getvalue()), "a.png", decoding=decoding).shape == (height, width, 3)


def test_only_the_chunks_of_pixels_count_as_their_bytes_whatever_else_the_file_holds():
    content = _png(30, 30, colour=2, cut=5)
    file = io.BytesIO(content[:33] + chunk(b"tEXt", bytes(100_000)) + content[33:])
    file.seek(7)
    assert data_bytes(file) == data_bytes(io.BytesIO(content)) == len(zlib.compress(bytes(91 * 30)))
    assert file.tell() == 7
    assert data_bytes(io.BytesIO(content[:60])) == 2 + 5  # the second chunk is cut off
