"""Images that state more pixels than their files can hold are refused before anything is allocated."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from peak_memory import peak_of
from PIL import Image, ImageOps
from png_chunks import chunk

from cytolora.config.reading import VERSION_1, Decoding
from cytolora.data.imaging.decode import decode
from cytolora.data.imaging.pixels import on_white, rgb_of, upright
from cytolora.data.imaging.samples import eight_bits, value_range
from cytolora.data.imaging.stated_sizes import Picture, check_embedded, memory_of
from cytolora.errors import DataError

_MAX_BYTES = 24 * 2**20
"""Above what was there: libraries are loaded, nothing of the image is."""


def _png(
    width: int, height: int, *, depth: int = 8, colour: int = 2, num_rows: int | None = None, padding: int = 0
) -> bytes:
    """Writes a PNG of one value, with as many rows as it says or fewer."""
    row = 1 + (width * depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour] + 7) // 8
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(bytes(row)) for _ in range(height if num_rows is None else num_rows))
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    text = chunk(b"tEXt", bytes(padding)) if padding else b""
    palette = chunk(b"PLTE", bytes(6)) if colour == 3 else b""
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        (chunk(b"IHDR", header), text, palette, chunk(b"IDAT", data + packer.flush()), chunk(b"IEND", b""))
    )


def _tiff(
    width: int, height: int, *, compression: int = 1, bits: tuple[int, ...] = (8, 8, 8), tile: int = 0, data: int = 100
) -> bytes:
    """Writes a little-endian TIFF of one strip or tile with a few bytes of data."""
    entries = [(256, 4, 1, width), (257, 4, 1, height), (259, 3, 1, compression), (262, 3, 1, 2 if bits[1:] else 1)]
    entries += [(277, 3, 1, len(bits))]
    entries += [(322, 4, 1, tile), (323, 4, 1, tile), (324, 4, 1, 8), (325, 4, 1, data)] if tile else []
    entries += [] if tile else [(273, 4, 1, 8), (278, 4, 1, height), (279, 4, 1, data)]
    at = 8 + data
    values = struct.pack(f"<{len(bits)}H", *bits)
    entries += [(258, 3, len(bits), at if len(bits) > 2 else int.from_bytes(values, "little"))]
    at += len(values) if len(bits) > 2 else 0
    directory = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    head = b"II*\0" + struct.pack("<I", at) + bytes(data) + (values if len(bits) > 2 else b"")
    return head + struct.pack("<H", len(entries)) + directory + bytes(4)


def _stating(content: bytes, old: bytes, new: bytes) -> bytes:
    assert content.count(old) >= 1
    return content.replace(old, new, 1)


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def _jpeg_stating(width: int, height: int) -> bytes:
    content = _encoded(Image.new("RGB", (37, 41)), "JPEG")
    return _stating(content, struct.pack(">HH", 41, 37), struct.pack(">HH", height, width))


def _bmp_stating(width: int, height: int) -> bytes:
    content = _encoded(Image.new("RGB", (37, 41)), "BMP")
    return _stating(content, struct.pack("<II", 37, 41), struct.pack("<II", width, height))


def _webp_stating(width: int, height: int) -> bytes:
    content = _encoded(Image.new("RGB", (37, 41)), "WEBP", lossless=True)
    bits = int.from_bytes(content[21:25], "little")
    assert bits & 0xFFFFFFF == 36 | 40 << 14
    return content[:21] + struct.pack("<I", bits >> 28 << 28 | width - 1 | height - 1 << 14) + content[25:]


def _big_tiff_stating(width: int, height: int) -> bytes:
    sink = io.BytesIO()
    tifffile.imwrite(sink, np.zeros((41, 37), np.uint16), bigtiff=True, byteorder=">")
    content = _stating(sink.getvalue(), struct.pack(">HHQI", 256, 4, 1, 37), struct.pack(">HHQI", 256, 4, 1, width))
    return _stating(content, struct.pack(">HHQI", 257, 4, 1, 41), struct.pack(">HHQI", 257, 4, 1, height))


_LIES: dict[str, Callable[[], bytes]] = {
    "tall TIFF of strips as they are": lambda: _tiff(40, 2_228_264),
    "wide TIFF of 16 bits": lambda: _tiff(2_228_264, 20, bits=(16,)),
    "TIFF of 16-bit RGB": lambda: _tiff(6000, 6000, bits=(16, 16, 16)),
    "TIFF packed with LZW": lambda: _tiff(9000, 9000, compression=5),
    "TIFF packed with deflate": lambda: _tiff(9000, 9000, compression=8),
    "TIFF packed with deflate of 16 bits": lambda: _tiff(9000, 9000, compression=8, bits=(16,)),
    "TIFF packed with PackBits": lambda: _tiff(9000, 9000, compression=32773),
    "TIFF packed as JPEG": lambda: _tiff(9000, 9000, compression=7),
    "small TIFF of a huge tile": lambda: _tiff(64, 64, tile=16384, compression=8),
    "small TIFF of a huge tile of 16 bits": lambda: _tiff(64, 64, tile=16384, compression=8, bits=(16,)),
    "BigTIFF of the other byte order": lambda: _big_tiff_stating(60_000, 1_000),
    "PNG": lambda: _png(9000, 9900, num_rows=1),
    "PNG of 1 bit": lambda: _png(9000, 9900, depth=1, colour=0, num_rows=1),
    "PNG with a palette": lambda: _png(9000, 9900, colour=3, num_rows=1),
    "PNG of 16-bit gray": lambda: _png(9000, 9900, depth=16, colour=0, num_rows=1),
    "PNG of 16-bit RGBA": lambda: _png(5700, 5700, depth=16, colour=6, num_rows=1),
    "JPEG": lambda: _jpeg_stating(9000, 9900),
    "BMP": lambda: _bmp_stating(9000, 9900),
    "PNG of one row with a long text": lambda: _png(9300, 9300, num_rows=1, padding=300_000),
    "WebP without loss": lambda: _webp_stating(16_000, 5_000),
}


@pytest.mark.parametrize("decoding", [Decoding(), VERSION_1], ids=["today", "version 1"])
@pytest.mark.parametrize("lie", _LIES)
@pytest.mark.filterwarnings("ignore")
def test_an_image_that_states_more_than_its_file_holds_is_refused_before_it_is_allocated(lie: str, decoding: Decoding):
    content = _LIES[lie]()
    error, num_bytes = peak_of(lambda: decode(io.BytesIO(content), lie, decoding=decoding))
    assert isinstance(error, DataError)
    assert str(error).startswith(f"Cannot read {lie} as an image: ")
    assert "\n" not in str(error)
    assert num_bytes < _MAX_BYTES


def test_the_error_names_the_size_and_the_bytes():
    with pytest.raises(DataError, match=r"it states 40 x 2228264 pixels, which no 228 bytes as they are can hold"):
        decode(io.BytesIO(_tiff(40, 2_228_264)), "a.tif")


def test_a_tile_that_states_more_than_its_directory_is_refused():
    sink = io.BytesIO()
    large = imagecodecs.jpeg2k_encode(np.zeros((1100, 1100, 3), np.uint8), codecformat="j2k")
    tifffile.imwrite(
        sink, iter([bytes(large)]), shape=(64, 64, 3), dtype=np.uint8, tile=(64, 64), compression="jpeg2000"
    )
    with pytest.raises(DataError, match=r"a part of 4,096 pixels states 1100 x 1100 itself"):
        decode(io.BytesIO(sink.getvalue()), "a.tif")


_DEEP_JPEG: dict[str, tuple[int, dict[str, Any]]] = {
    "12 bits": (12, {"bitspersample": 12, "level": 100}),
    "16 bits without loss": (16, {"bitspersample": 16, "lossless": True}),
    "12 bits without loss": (12, {"bitspersample": 12, "lossless": True}),
}
"""JPEG that Pillow does not open."""


@pytest.mark.parametrize("tile", [(64, 64), None], ids=["tiles", "strips"])
@pytest.mark.parametrize("kind", _DEEP_JPEG)
def test_a_tiff_of_jpeg_that_pillow_does_not_open_is_read(kind: str, tile: tuple[int, int] | None):
    bits, options = _DEEP_JPEG[kind]
    down, across = np.mgrid[:150, :200]
    values = ((down * 3 + across * 5) % 2**8 << bits - 8).astype(np.uint16)
    values = np.sort(values, axis=1)  # smooth
    sink = io.BytesIO()
    tifffile.imwrite(sink, values, compression="jpeg", compressionargs=options, tile=tile, rowsperstrip=32)
    content = sink.getvalue()
    changed = content.replace(struct.pack("<HHII", 258, 3, 1, 16), struct.pack("<HHII", 258, 3, 1, bits))
    expected = np.round(values.astype(float) * 255 / (2**bits - 1))[..., None]
    assert np.abs(decode(io.BytesIO(changed), kind).astype(int) - expected).max() <= (0 if "without" in kind else 1)


def _embedded(compression: str) -> bytes:
    """Encodes an image of 1,100 x 1,100 pixels as a strip or tile would hold it."""
    large = np.zeros((1100, 1100, 3), np.uint8)
    deep = large[..., 0].astype(np.uint16)
    return bytes({
        "JPEG": lambda: imagecodecs.jpeg8_encode(large),
        "JPEG of 12 bits": lambda: imagecodecs.jpeg8_encode(deep, bitspersample=12),
        "JPEG without loss": lambda: imagecodecs.jpeg8_encode(deep, bitspersample=16, lossless=True),
        "progressive JPEG": lambda: _encoded(Image.fromarray(large), "JPEG", progressive=True),
        "JPEG with a comment and fill bytes": lambda: _encoded(Image.fromarray(large), "JPEG", comment=b"\xff\xc0" * 9)
        .replace(b"\xff\xc0\0\x11", b"\xff\xff\xff\xc0\0\x11"),
        "JPEG 2000": lambda: imagecodecs.jpeg2k_encode(large, codecformat="j2k"),
        "JPEG 2000 in boxes": lambda: imagecodecs.jpeg2k_encode(large, codecformat="jp2"),
        "JPEG 2000 of five samples": lambda: imagecodecs.jpeg2k_encode(np.zeros((1100, 1100, 5), np.uint8)),
        "PNG": lambda: imagecodecs.png_encode(large),
        "WebP": lambda: imagecodecs.webp_encode(large),
    }[compression]())  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        ("JPEG", 7), ("JPEG of 12 bits", 7), ("JPEG without loss", 7), ("progressive JPEG", 7),
        ("JPEG with a comment and fill bytes", 7), ("JPEG 2000", 33003), ("JPEG 2000 in boxes", 34712),
        ("JPEG 2000 of five samples", 33005), ("PNG", 34933), ("WebP", 50001),
    ],
)  # fmt: skip
def test_the_size_that_a_part_states_is_found_in_every_kind_of_image(kind: str, number: int):
    content, picture = _embedded(kind), Picture("a.tif", 64, 64)
    check_embedded(picture, number, content, 1100 * 1100)
    with pytest.raises(DataError, match=r"a part of 4,096 pixels states 1100 x 1100 itself"):
        check_embedded(picture, number, content, 64 * 64)


@given(content=st.binary(max_size=300), number=st.sampled_from([7, 33003, 34712, 34933, 50001, 1]))
def test_bytes_that_are_no_image_are_left_to_the_decoder(content: bytes, number: int):
    check_embedded(Picture("a.tif", 64, 64), number, b"\xff\xd8" + content.replace(b"\xff", b"\xfe"), 2**64)


def _slide(edge: int, num_cells: int) -> np.ndarray:
    """Draws a white image with a few cells of noise."""
    rng = np.random.default_rng(0)
    pixels = np.full((edge, edge, 3), 245, np.uint8)
    for left, top in rng.integers(0, edge - 60, (num_cells, 2)):
        pixels[top : top + 50, left : left + 50] = rng.integers(60, 200, (50, 50, 3))
    return pixels


def _tiled(pixels: np.ndarray, **options: Any) -> bytes:
    sink = io.BytesIO()
    tifffile.imwrite(sink, pixels, tile=(512, 512), photometric="rgb", **options)
    return sink.getvalue()


_WHITE: dict[str, tuple[int, int, Callable[[np.ndarray], bytes]]] = {
    "progressive JPEG": (7500, 15, lambda drawn: _encoded(Image.fromarray(drawn), "JPEG", progressive=True)),
    "tiles packed with LZW": (9000, 40, lambda drawn: _tiled(drawn, compression="lzw")),
    "tiles packed with deflate": (9000, 40, lambda drawn: _tiled(drawn, compression="deflate", bigtiff=True)),
    "tiles packed with zstd": (9000, 5, lambda drawn: _tiled(drawn, compression="zstd")),
    "tiles of JPEG 2000, all white": (8400, 0, lambda drawn: _tiled(drawn, compression="jpeg2000")),
    "white PNG": (8700, 0, lambda drawn: _encoded(Image.fromarray(drawn), "PNG")),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", _WHITE)
def test_a_large_white_image_is_read_whatever_packs_it(kind: str):
    edge, num_cells, encoded = _WHITE[kind]
    drawn = _slide(edge, num_cells)
    content = encoded(drawn)
    assert 3 * edge * edge > 200 * len(content)
    difference = decode(io.BytesIO(content), kind)[::7, ::7].astype(np.int16) - drawn[::7, ::7]
    assert np.abs(difference).mean() <= (0.1 if kind == "progressive JPEG" else 0)


@pytest.mark.parametrize("size", [(9920, 7016), (9000, 9000), (7016, 9920)])
def test_a_blank_page_of_fax_is_read(size: tuple[int, int]):
    def least() -> int:
        content = _encoded(Image.new("1", size, 1), "TIFF", compression="group4", strip_size=2**30)
        assert len(content) < 3000
        pixels = decode(io.BytesIO(content), "a.tif")
        assert pixels.shape == (size[1], size[0], 3)
        return int(pixels.min())

    value, num_bytes = peak_of(least)
    assert value == 255
    assert num_bytes < 512 * 2**20


@pytest.mark.parametrize(
    ("needed", "pixel_bytes", "stored", "is_read"),
    [
        (482_344_960, 10**12, 1, True),
        (482_344_961, 20_000, 1, True),
        (482_344_961, 20_001, 1, False),
        (2**30, 20_000, 1, True),
        (2**30 + 1, 200, 1, True),
        (2**30 + 1, 201, 1, False),
    ],
)
def test_memory_above_460_mib_takes_a_20000th_of_the_pixels_and_above_1_gib_a_200th(
    needed: int, pixel_bytes: int, stored: int, is_read: bool
):
    def check() -> int:
        return memory_of(Picture("a.webp", 64, 64), needed, pixel_bytes, stored)

    if is_read:
        assert check() == needed
    else:
        with pytest.raises(DataError, match=r"would take [\d,]+ bytes of memory"):
            check()


def _flat() -> Image.Image:
    return Image.new("RGB", (2100, 1900), (200, 180, 220))


_HONEST = {
    "PNG": lambda: _encoded(_flat(), "PNG"),
    "JPEG": lambda: _encoded(_flat(), "JPEG", quality=1),
    "progressive JPEG": lambda: _encoded(_flat(), "JPEG", quality=1, progressive=True),
    "BMP": lambda: _encoded(_flat(), "BMP"),
    "WebP without loss": lambda: _encoded(_flat(), "WEBP", lossless=True),
    "TIFF": lambda: _encoded(_flat(), "TIFF"),
    **{
        f"TIFF packed with {name}": lambda name=name: _encoded(_flat(), "TIFF", compression=name)
        for name in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
    },
}


@pytest.mark.parametrize("kind", _HONEST)
def test_an_image_of_one_colour_is_read_however_well_it_is_packed(kind: str):
    pixels = decode(io.BytesIO(_HONEST[kind]()), kind)
    assert pixels.shape == (1900, 2100, 3)
    assert np.abs(pixels.astype(int) - (200, 180, 220)).max() <= (32 if "JPEG" in kind or "jpeg" in kind else 0)


@pytest.mark.parametrize("name", ["deflate", "lzw", "zstd", "none", "packbits"])
def test_a_deep_tiff_of_one_value_is_read_however_well_it_is_packed(name: str):
    sink = io.BytesIO()
    tifffile.imwrite(sink, np.full((1900, 2100), 514, np.uint16), compression=name)
    assert (decode(io.BytesIO(sink.getvalue()), name) == 2).all()


def _drawn(mode: str) -> Image.Image:
    """Draws an image that is converted in parts, with something else everywhere."""
    values = np.random.default_rng(0).integers(0, 256, (1300, 1111, 4), dtype=np.uint8)
    image = Image.fromarray(values)
    return image.quantize(64) if mode == "P" else image.convert(mode)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "HSV", "LAB"])
def test_an_image_converted_in_parts_is_as_pillow_converts_it_whole(mode: str):
    if mode == "LAB":
        from PIL import ImageCms

        srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        image = ImageCms.profileToProfile(_drawn("RGB"), srgb, lab, outputMode="LAB")
    else:
        image = _drawn(mode)
    assert image is not None
    np.testing.assert_array_equal(rgb_of(image), np.array(image.convert("RGB")))


def test_transparency_laid_on_white_in_parts_is_as_pillow_lays_it():
    image = _drawn("RGBA")
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    np.testing.assert_array_equal(on_white(image), np.array(Image.alpha_composite(white, image).convert("RGB")))


@pytest.mark.parametrize("orientation", range(10))
def test_pixels_are_turned_as_pillow_turns_an_image(orientation: int):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8))
    image.getexif()[274] = orientation
    np.testing.assert_array_equal(
        upright(np.array(image), orientation), np.array(ImageOps.exif_transpose(image)), strict=True
    )


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
@pytest.mark.parametrize("lossless", [True, False])
def test_a_large_webp_has_the_pixels_that_pillow_reads(mode: str, lossless: bool):
    values = np.random.default_rng(0).integers(0, 256, (45, 45, 4), dtype=np.uint8).repeat(47, 0).repeat(47, 1)
    content = _encoded(Image.fromarray(values).convert(mode), "WEBP", lossless=lossless, method=0)
    with Image.open(io.BytesIO(content)) as image:
        assert image.width * image.height > 2**22
        expected = on_white(image) if mode == "RGBA" else rgb_of(image)
    np.testing.assert_array_equal(decode(io.BytesIO(content), "a.webp"), expected)


@given(seed=st.integers(0, 99), bits=st.integers(8, 16), num_hot=st.integers(0, 40), channels=st.sampled_from([1, 3]))
def test_the_highest_value_but_for_a_few_is_that_of_the_sorted_values(
    seed: int, bits: int, num_hot: int, channels: int
):
    random = np.random.default_rng(seed)
    values = random.integers(0, 2 ** (bits - 1), (70, 90, channels)).astype(np.uint16)
    values.reshape(-1)[random.integers(0, values.size, num_hot)] = 2**bits - 1
    few = int(0.001 * values.size)
    reach = value_range(values, bits, None, Decoding())
    assert reach.highest == np.sort(values, axis=None)[values.size - 1 - few]
    assert reach.depth_top == 2**bits - 1
    assert eight_bits(values, reach.top).max() == round(int(values.max()) * 255 / reach.top)
