"""Odd image files: compressions, unnamed channels, hot pixels, faint transparency, and words for what is no image."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from cytolora.config.reading import STANDARD, Decoding
from cytolora.data.imaging import marks
from cytolora.data.imaging.decode import decode, decode_image
from cytolora.data.imaging.marks import changed_rule, used_range
from cytolora.errors import DataError


def noise(*shape: int, top: int = 256, dtype: str = "uint8", seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, top, shape).astype(dtype)


def tiff(pixels: np.ndarray, **options) -> io.BytesIO:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **options)
    return io.BytesIO(buffer.getvalue())


@pytest.mark.parametrize("tile", [None, (16, 16)])
@pytest.mark.parametrize(
    "compression", ["jpeg2000", "jpegxl", "webp", "zstd", "lzw", "lzma", "adobe_deflate", "packbits", None]
)
def test_tiff_is_read_with_every_lossless_compression(compression: str | None, tile: tuple[int, int] | None):
    options = {"lossless": True} if compression == "webp" else {}
    pixels = noise(40, 33, 3)
    file = tiff(pixels, photometric="rgb", compression=compression, compressionargs=options or None, tile=tile)
    decoded = decode_image(file, "cell.tif")
    np.testing.assert_array_equal(decoded.pixels, pixels)
    assert decoded.conversion == ""


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_samples_that_nothing_names_are_refused_and_not_the_first_taken(photometric: str, dtype: str, count: int):
    file = tiff(noise(20, 30, count, dtype=dtype), photometric=photometric, planarconfig="contig")
    with pytest.raises(DataError, match=rf"nothing says what its {count} samples a pixel are; save it as RGB"):
        decode(file, "cell.tif")


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("number", [1, 2])
def test_samples_besides_the_colours_are_named(dtype: str, number: int):
    pixels = noise(20, 30, 3 + number, dtype=dtype)
    file = tiff(pixels, photometric="rgb", extrasamples=["unspecified"] * number)
    decoded = decode_image(file, "cell.tif")
    pixels = pixels.astype(int)
    np.testing.assert_array_equal(
        decoded.pixels, pixels[..., :3] if dtype == "uint8" else (pixels[..., :3] + 128) // 257
    )
    assert decoded.asides == ("further samples ignored",)


@pytest.mark.parametrize(("bits", "number"), [(9, 1), (10, 2), (11, 1), (12, 2), (12, 0), (13, 1)])
def test_a_few_hot_pixels_do_not_hide_that_an_image_is_nearly_black(tmp_path: Path, bits: int, number: int):
    values = noise(50, 50, top=2**bits, dtype="uint16")
    values[0, 0], values[40, :number] = 2**bits - 1, 65535
    tifffile.imwrite(tmp_path / "cell.tif", values, photometric="minisblack")
    share = decode_image(tmp_path / "cell.tif").used_share
    assert share is not None
    assert share < 2**bits / 65535
    decoding = used_range([tmp_path / "cell.tif"], Decoding(value_range="used"))
    top = 2**bits - 1
    assert decoding.value_range == top
    expected = (np.minimum(values, top).astype(int) * 255 + top // 2) // top
    np.testing.assert_array_equal(decode(tmp_path / "cell.tif", decoding=decoding)[..., 0], expected)


def test_many_pixels_above_the_range_are_refused():
    values = noise(50, 50, top=4096, dtype="uint16")
    values[0, :4] = 65535
    with pytest.raises(DataError, match="values up to 65,535, above the value range of 0 to 4,095"):
        decode(tiff(values, photometric="minisblack"), "cell.tif", decoding=Decoding(value_range=4095))


def rgba(alpha: np.ndarray) -> io.BytesIO:
    buffer = io.BytesIO()
    Image.fromarray(np.dstack([noise(40, 40, 3), alpha])).save(buffer, "PNG")
    return buffer


FAINT: dict[str, Callable[[], np.ndarray]] = {
    "0": lambda: np.zeros((40, 40), np.uint8),
    "1": lambda: np.full((40, 40), 1, np.uint8),
    "12": lambda: np.full((40, 40), 12, np.uint8),
    "0 to 12": lambda: noise(40, 40, top=13),
    "one opaque pixel": lambda: np.pad(np.full((1, 1), 255, np.uint8), ((9, 30), (30, 9))),
    "one pixel at the corner": lambda: np.pad(np.full((1, 1), 128, np.uint8), ((0, 39), (0, 39))),
}


@pytest.mark.parametrize("name", FAINT)
def test_an_image_that_is_all_but_transparent_is_refused(name: str):
    with pytest.raises(DataError, match="every pixel is transparent") as error:
        decode(rgba(FAINT[name]()), "cell.png")
    assert getattr(error.value, "code", "") == "P106"


@pytest.mark.parametrize("alpha", [13, 40, 255])
def test_a_visible_image_is_laid_on_white(alpha: int):
    found = decode(rgba(np.full((40, 40), alpha, np.uint8)), "cell.png").astype(float)
    expected = 255 + (noise(40, 40, 3) - 255.0) * alpha / 255
    assert np.abs(found - expected).max() <= 1


def test_transparency_of_8_bits_is_read_once_to_be_marked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "cell.png").write_bytes(rgba(noise(40, 40)).getvalue())
    monkeypatch.setattr(marks, "decode", lambda *_, **__: pytest.fail("read a second time"))
    assert changed_rule(tmp_path / "cell.png", STANDARD) == ""


def test_transparency_of_16_bits_is_marked(tmp_path: Path):
    values = noise(20, 20, 4, top=65536, dtype="uint16")
    values[..., 3] = 65535
    tifffile.imwrite(tmp_path / "cell.tif", values, photometric="rgb", extrasamples=["unassalpha"])
    assert "16-bit RGBA" in changed_rule(tmp_path / "cell.tif", STANDARD)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is empty"),
        (b"\0" * 500, "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n", "pointer of Git LFS.*`git lfs pull`"),
        (b"GIF89a" + b"\1" * 40, "it is GIF inside, which is not read; save it as PNG"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "it is JPEG 2000 inside"),
        (b"\0" * 128 + b"DICM", "it is DICOM inside"),
        (b"\x89PNG\r\n\x1a\n", "its PNG data are damaged"),
        (b"<html>404</html>", "none of PNG, JPEG, BMP, TIFF, WebP"),
    ],
)
def test_what_is_no_image_is_called_by_its_name(tmp_path: Path, content: bytes, words: str):
    (tmp_path / "cell.png").write_bytes(content)
    for source in (tmp_path / "cell.png", io.BytesIO(content)):
        with pytest.raises(DataError, match=words):
            decode(source, "cell.png")
