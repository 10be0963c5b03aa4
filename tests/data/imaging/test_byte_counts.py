"""Byte counts of TIFF files that are 0, too small or missing, and strips and tiles that are left out."""

import io
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from cytolora.config.reading import VERSION_1
from cytolora.data.imaging.decode import decode
from cytolora.errors import DataError

_OFFSETS, _COUNTS = (273, 324), (279, 325)
_SHALLOW = np.random.default_rng(0).integers(0, 256, (640, 700, 3), dtype=np.uint8)
_DEEP = _SHALLOW[..., 0].astype(np.uint16) * 257


def _written(values: np.ndarray, **options: Any) -> bytes:
    sink = io.BytesIO()
    options = {"photometric": "rgb" if values.shape[-1] == 3 else "minisblack", **options}
    tifffile.imwrite(sink, values, **options)
    return sink.getvalue()


def _changed(content: bytes, tags: tuple[int, ...], change: Callable[[int, int], int]) -> bytes:
    """Changes the values of a tag by their number and what they are."""
    changed = bytearray(content)
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        order = file.byteorder
        (tag,) = (tag for tag in file.pages.first.tags if tag.code in tags)
        form = f"{order}{tag.count}{ {3: 'H', 4: 'I', 16: 'Q'}[int(tag.dtype)] }"
        values = struct.unpack_from(form, changed, tag.valueoffset)
        struct.pack_into(form, changed, tag.valueoffset, *(change(number, old) for number, old in enumerate(values)))
    return bytes(changed)


def _without(content: bytes, is_left_out: Callable[[int], bool]) -> bytes:
    """Leaves strips or tiles out, as sparse files do: offset and count are 0."""
    for tags in (_OFFSETS, _COUNTS):
        content = _changed(content, tags, lambda number, old: 0 if is_left_out(number) else old)
    return content


_STORED = {
    "one strip": {"rowsperstrip": 640},
    "strips": {"rowsperstrip": 100},
    "tiles": {"tile": (256, 256)},
    "BigTIFF of the other byte order": {"rowsperstrip": 100, "bigtiff": True, "byteorder": ">"},
}


@pytest.mark.parametrize("counts", ["0", "a row", "half", "the first 0", "one byte less"])
@pytest.mark.parametrize("values", [_SHALLOW, _DEEP], ids=["8 bits", "16 bits"])
@pytest.mark.parametrize("kind", _STORED)
def test_pixels_as_they_are_do_not_depend_on_byte_counts(kind: str, values: np.ndarray, counts: str):
    change: Callable[[int, int], int] = {
        "0": lambda number, old: 0,
        "a row": lambda number, old: 1400,
        "half": lambda number, old: old // 2,
        "the first 0": lambda number, old: old if number else 0,
        "one byte less": lambda number, old: old - 1,
    }[counts]
    content = _changed(_written(values, **_STORED[kind]), _COUNTS, change)
    np.testing.assert_array_equal(
        decode(io.BytesIO(content), kind), _SHALLOW if values is _SHALLOW else _SHALLOW[..., :1].repeat(3, 2)
    )


@pytest.mark.parametrize("values", [_SHALLOW, _DEEP], ids=["8 bits", "16 bits"])
@pytest.mark.parametrize("packed", ["lzw", "deflate", "packbits"])
def test_one_packed_strip_with_a_byte_count_of_0_is_read_to_its_end(packed: str, values: np.ndarray):
    content = _changed(_written(values, rowsperstrip=640, compression=packed), _COUNTS, lambda number, old: 0)
    np.testing.assert_array_equal(
        decode(io.BytesIO(content), packed), _SHALLOW if values is _SHALLOW else _SHALLOW[..., :1].repeat(3, 2)
    )


def test_version_1_reads_pixels_with_byte_counts_of_0():
    content = _changed(_written(_SHALLOW, rowsperstrip=640), _COUNTS, lambda number, old: 0)
    np.testing.assert_array_equal(decode(io.BytesIO(content), "a.tif", decoding=VERSION_1), _SHALLOW)


@pytest.mark.parametrize("counts", [0, 1, 2**32 - 1])
def test_a_size_that_the_whole_file_cannot_hold_is_refused_whatever_the_counts_say(counts: int):
    content = _changed(_written(_SHALLOW[:8, :8], rowsperstrip=8), _COUNTS, lambda number, old: counts)
    wide = content.replace(struct.pack("<HHII", 256, 4, 1, 8), struct.pack("<HHII", 256, 4, 1, 2**20))
    wide = wide.replace(struct.pack("<HHIHH", 256, 3, 1, 8, 0), struct.pack("<HHII", 256, 4, 1, 2**20))
    with pytest.raises(DataError, match=r"it states 1048576 x 8 pixels, which no [\d]{3} bytes as they are can hold"):
        decode(io.BytesIO(wide), "a.tif")


def test_a_small_file_that_holds_no_tile_at_all_is_no_large_image():
    content = _written(np.zeros((2048, 2048, 3), np.uint8), tile=(1024, 1024), compression="lzw")
    content = _changed(content, (259,), lambda number, old: 1)
    with pytest.raises(DataError, match=r"it states 2048 x 2048 pixels"):
        decode(io.BytesIO(_without(content, lambda number: True)), "a.tif")


_PACKED = ("none", "jpeg", "jpeg2000", "aperio_jp2000_rgb", "png", "webp", "lzw", "deflate", "zstd", "lzma")


@pytest.mark.parametrize("left_out", ["few", "most"])
@pytest.mark.parametrize("packed", _PACKED)
def test_tiles_that_are_left_out_are_black_and_the_others_as_they_were(packed: str, left_out: str):
    whole = _written(_SHALLOW, tile=(256, 256), compression=packed)
    is_left_out = (lambda number: number in (0, 4)) if left_out == "few" else (lambda number: number != 4)
    content = _without(whole, is_left_out)
    expected = decode(io.BytesIO(whole), packed).copy()
    for number in range(9):
        if is_left_out(number):
            down, across = divmod(number, 3)
            expected[down * 256 : down * 256 + 256, across * 256 : across * 256 + 256] = 0
    assert expected.any()
    difference = decode(io.BytesIO(content), packed).astype(int) - expected
    assert np.abs(difference).max() <= (2 if packed == "jpeg" else 0)  # two builds of libjpeg


def test_tiles_as_they_are_that_are_left_out_need_no_room_in_the_file():
    values = np.zeros((2048, 2048, 3), np.uint8)
    values[:256, :256] = 90  # tifffile looks at the first
    values[512:768, 256:512] = 91
    tiles = (values[y : y + 256, x : x + 256] for y in range(0, 2048, 256) for x in range(0, 2048, 256))
    sink = io.BytesIO()
    tifffile.imwrite(
        sink,
        (tile if tile.any() else None for tile in tiles),
        shape=values.shape,
        dtype=np.uint8,
        tile=(256, 256),
        photometric="rgb",
    )
    assert len(sink.getvalue()) < values.size / 20
    np.testing.assert_array_equal(decode(io.BytesIO(sink.getvalue()), "a.tif"), values)


@settings(max_examples=25)
@given(data=st.data(), bits=st.sampled_from([8, 16]), tile=st.sampled_from([None, (32, 48)]))
def test_strips_and_tiles_with_any_wrong_counts_have_their_pixels(
    data: st.DataObject, bits: int, tile: tuple[int, int] | None
):
    gray = _SHALLOW[:130, :90, 0]
    values = gray if bits == 8 else gray.astype(np.uint16) * 257
    content = _written(values, tile=tile, rowsperstrip=data.draw(st.integers(1, 130)))
    content = _changed(content, _COUNTS, lambda number, old: data.draw(st.integers(0, old)))
    np.testing.assert_array_equal(decode(io.BytesIO(content), "a.tif")[..., 1], gray)
